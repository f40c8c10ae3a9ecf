"""Whether an answer holds what a right answer must hold: for files of requests that say so."""

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# A dash is a sign only where nothing stands before it: 20-25 is a range, B-25 a room.
_NUMBER: Final = re.compile(
    r"(?P<sign>(?<![\w)\]}])-)?[$€£¥]?"
    r"(?P<figure>(?:\d{1,3}(?:[,\u00a0\u202f]\d{2,3}){0,6}[,\u00a0\u202f]\d{3}(?!\d)|\d++)(?:\.\d++)?|(?<![\w.])\.\d++)"
    r"(?P<exponent>[eE][+-]?\d{1,3}(?!\w))?"
)
_DASHES: Final = str.maketrans(dict.fromkeys("−–﹣－", "-"))
_SEPARATORS: Final = str.maketrans("", "", ",\u00a0\u202f")
# What an answer says of itself, and what it gives there: the rest of the sentence. The last of many count.
_STATED: Final = re.compile(r"\banswer(?:\s{1,2}is|\s{1,2}would be|:)|####|\\boxed\{", re.IGNORECASE)
_SENTENCE: Final = re.compile(r"(?:[^\n.!?]++|[.!?](?!\s|\Z))*+")
_MOST_STATED: Final = 8
# A remark beside the answer: "(see step 3)". What is in brackets without a word belongs to it.
_REMARK: Final = re.compile(r"\((?=[^()\n]{0,200}[^\W\d_]{2})[^()\n]{1,200}\)")
# Scripts without spaces between words: there, any place may be the edge of one.
_UNSPACED: Final = (
    r"\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_EDGE: Final = rf"[^\W{_UNSPACED}]"
_APOSTROPHES: Final = str.maketrans(dict.fromkeys("’‘ʼ＇`´", "'"))


@dataclass(frozen=True)
class Expected:
    """What a right answer must hold. `number`: the one that it states, else the last in it. `words`: one of them, and
    none of `no_words`."""

    number: float | None = None
    words: tuple[str, ...] = ()
    no_words: tuple[str, ...] = ()


def expected(row: Mapping[str, Any]) -> Expected:
    """From a line of a file: {"number": 25} or {"words": ["Paris"], "not": ["London"]}; ValueError for all else."""
    unknown = sorted(set(row) - {"number", "words", "not"})
    words, no_words = _texts(row, "words"), _texts(row, "not")
    number = row.get("number")
    if unknown or (number is None) == (not words) or (no_words and not words):
        raise ValueError('"expect" must hold "number", or "words" and perhaps "not"')
    return Expected(None if number is None else _quantity(number), words, no_words)


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = row.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f'"{name}" must be a list of strings, not {json.dumps(found)}')
    return tuple(found)


def _quantity(number: object) -> float:
    try:
        quantity = float(number) if isinstance(number, int | float | str) else math.nan
    except (ValueError, OverflowError):
        quantity = math.nan
    if not math.isfinite(quantity):
        raise ValueError(f'"number" must be a number, not {json.dumps(number)[:40]}')
    return quantity


def is_right(answer: str, wanted: Expected) -> bool:
    """Whether the answer holds it."""
    if wanted.number is not None:
        return _given(answer) == wanted.number
    text = _plain(answer)
    return any(_holds(text, word) for word in wanted.words) and not any(_holds(text, no) for no in wanted.no_words)


def _given(answer: str) -> float | None:
    """The number that the answer states, of an equation what it comes to; else the last one, before remarks."""
    text = answer.translate(_DASHES)
    for stated in reversed(list(_STATED.finditer(text))[-_MOST_STATED:]):
        sentence = _SENTENCE.match(text, stated.end())
        given = _without_remarks(sentence[0] if sentence else "")
        if numbers := _numbers(given.rpartition("=")[2]):
            return numbers[0]
    numbers = _numbers(_without_remarks(text))
    return numbers[-1] if numbers else None


def _without_remarks(text: str) -> str:
    rest = _REMARK.sub(" ", text)
    return rest if _NUMBER.search(rest) else text


def _numbers(text: str) -> list[float]:
    found = _NUMBER.finditer(text)
    return [
        float(f"{each['sign'] or ''}{each['figure'].translate(_SEPARATORS)}{each['exponent'] or ''}") for each in found
    ]


def _plain(text: str) -> str:
    """Letters as one compares them: composed, without their case, with one kind of apostrophe."""
    folded = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()
    return unicodedata.normalize("NFC", folded)


def _holds(text: str, word: str) -> bool:
    """Whether the word stands alone in it: "positive", not "positively"."""
    plain = _plain(word)
    before = f"(?<!{_EDGE})" if re.match(_EDGE, plain[0]) else ""
    after = f"(?!{_EDGE})" if re.match(_EDGE, plain[-1]) else ""
    return re.search(f"{before}{re.escape(plain)}{after}", text) is not None
