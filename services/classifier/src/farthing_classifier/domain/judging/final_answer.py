"""What an answer gives as its final answer: a number or the letter of an option."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from farthing_classifier.domain.judging.arithmetic import Kind, Token, tokens

# The final answer of a long text stands at its end, or at its beginning.
END_CHARS: Final = 4_096
BEGINNING_CHARS: Final = 400

_MARKED: Final = (
    re.compile(r"####[ \t]{0,4}([^\n]{1,80})"),
    re.compile(r"\\boxed ?\{([^{}\n]{1,80})\}"),
    re.compile(r"\b(?:final )?answer(?: is|:| would be)[ \t:*$]{0,6}([^\n]{1,80})", re.IGNORECASE),
)
# Numbers in words count where there is no other.
_ONES: Final = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty"
)
_TENS: Final = "twenty thirty forty fifty sixty seventy eighty ninety hundred"
_SPELLED: Final = {
    **{word: float(number) for number, word in enumerate(_ONES.split())},
    **{word: 10.0 * number for number, word in enumerate(_TENS.split(), 2)},
    "none": 0.0,
    "both": 2.0,
}
_SPELLED_NUMBER: Final = re.compile(rf"\b(?:{'|'.join(_SPELLED)})(?:-(?:{'|'.join(_SPELLED)}))?\b", re.IGNORECASE)
_OPTION: Final = (
    re.compile(r"\b(?:answer|option|choice)(?: is|:)?[ \t:*(]{0,6}([A-Ja-j])(?=[).:*\s]|$)", re.IGNORECASE),
    re.compile(r"^[ \t*(]{0,4}([A-Ja-j])(?=[).:]|[ *]{0,3}$)", re.MULTILINE),
    re.compile(r"\b([A-J])\)?[.*]{0,3}\s*\Z"),
)


@dataclass(frozen=True, slots=True)
class FinalAnswer:
    """`number` is what the answer states, else the last one in it; `last_number` is the last one in any case."""

    number: float | None
    last_number: float | None
    option: str | None
    is_marked: bool


def find(answer: str) -> FinalAnswer:
    """The final answer of a text, as far as it gives one."""
    text = answer.rstrip()
    end = text[-END_CHARS:]
    numbers = _numbers(end) or _spelled(end)
    last = numbers[-1] if numbers else None
    marked = _marked(end)
    return FinalAnswer(last if marked is None else marked, last, _option(text), marked is not None)


def _marked(text: str) -> float | None:
    for pattern in _MARKED:
        for match in reversed(list(pattern.finditer(text))):
            numbers = _numbers(match[1])
            if numbers:
                return numbers[0]
    return None


def _numbers(text: str) -> list[float]:
    """Numbers with their sign, fractions as what they come to; a percentage counts as its figure."""
    row = tokens(text)
    found: list[float] = []
    index = 0
    while index < len(row):
        if row[index].kind is Kind.NUMBER:
            value = _figure(row[index])
            if _is_fraction(row, index):
                value /= row[index + 2].value
                index += 2
            found.append(-value if _is_negative(row, index) else value)
        index += 1
    return found


def _spelled(text: str) -> list[float]:
    """ "seven", "twenty-one"; larger ones are not put together."""
    return [sum(_SPELLED[part] for part in found.lower().split("-")) for found in _SPELLED_NUMBER.findall(text)]


def _figure(token: Token) -> float:
    return token.value * 100.0 if token.percent else token.value


def _is_fraction(row: list[Token], index: int) -> bool:
    if index + 2 >= len(row) or row[index + 1].text != "/":
        return False
    divisor = row[index + 2]
    return divisor.kind is Kind.NUMBER and divisor.value > 0.0 and row[index].end == row[index + 1].start


def _is_negative(row: list[Token], index: int) -> bool:
    if index == 0 or row[index - 1].text != "-" or row[index - 1].end != row[index].start:
        return False
    if index == 1:
        return True
    before = row[index - 2]
    glued = before.kind is Kind.WORD and before.text.isalpha() and before.end == row[index - 1].start  # room B-25
    return not glued and before.kind not in (Kind.NUMBER, Kind.CLOSE)


def _option(text: str) -> str | None:
    for part in (text[-END_CHARS:], text[:BEGINNING_CHARS]):
        for pattern in _OPTION:
            letters = pattern.findall(part)
            if letters:
                return str(letters[-1]).upper()
    return None
