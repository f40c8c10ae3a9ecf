"""How long an answer will be: what the model predicts, corrected by what the prompt says in so many words."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Final

MAX_TOKENS: Final = 8_192
TOKENS_PER_WORD: Final = 1.35
TOKENS_PER_SENTENCE: Final = 28.0
TOKENS_PER_PARAGRAPH: Final = 110.0
# A stated length is not kept to the word: nine of ten answers stay under the one multiple of it, and over the other.
STATED_P90_FACTOR: Final = 1.4
STATED_P10_FACTOR: Final = 0.7
MIN_TOKENS: Final = 1

_COUNT: Final = r"(\d{1,4}|an?|one|two|three|four|five|six|seven|eight|nine|ten)"
_NUMBERS: Final = {
    word: number
    for number, word in enumerate("zero one two three four five six seven eight nine ten".split())
    if number
} | {"a": 1, "an": 1}
_STATED: Final = re.compile(
    rf"\b(?:in|with|using|of|about|around|to|than|most|maximum|exactly|write|give|single)\s+(?:\w+\s+)?"
    rf"{_COUNT}[\s-]+(?:short |single |long )?(word|sentence|paragraph)s?\b",
    re.IGNORECASE,
)
_PER_UNIT: Final = {"word": TOKENS_PER_WORD, "sentence": TOKENS_PER_SENTENCE, "paragraph": TOKENS_PER_PARAGRAPH}


@dataclass(frozen=True, slots=True)
class OutputLength:
    """One of ten such answers is shorter than `p10_tokens`, half than `p50_tokens`, nine of ten than `p90_tokens`."""

    p10_tokens: int
    p50_tokens: int
    p90_tokens: int


def predict(logs: tuple[float, float, float], text: str) -> OutputLength:
    """From the natural logarithms of p10, p50 and p90 that the heads give, unless the text states a length."""
    stated = stated_tokens(text)
    if stated is not None:
        return _bounded(stated * STATED_P10_FACTOR, stated, stated * STATED_P90_FACTOR)
    return _bounded(*map(_exp, logs))


def stated_tokens(text: str) -> float | None:
    """The length that the text asks for ("in two sentences", "a 300-word essay"), in tokens; the last one counts."""
    matches = _STATED.findall(text)
    if not matches:
        return None
    count, unit = matches[-1]
    number = _NUMBERS.get(count.lower()) or (int(count) if count.isdigit() else 1)
    return max(1, number) * _PER_UNIT[unit.lower()]


def _bounded(p10: float, p50: float, p90: float) -> OutputLength:
    middle = min(MAX_TOKENS, max(MIN_TOKENS, round(p50)))
    low = min(middle, max(MIN_TOKENS, round(p10)))
    return OutputLength(low, middle, min(MAX_TOKENS, max(middle, round(p90))))


def _exp(value: float) -> float:
    return math.exp(min(math.log(MAX_TOKENS), max(0.0, value)))
