"""Whether an answer holds what a right answer must hold: for files of requests that say so."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


@dataclass(frozen=True)
class Expected:
    """What a right answer must hold. `number`: the last number in it. `words`: one of them, and none of `no_words`."""

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
    return Expected(None if number is None else float(number), words, no_words)


def _texts(row: Mapping[str, Any], name: str) -> tuple[str, ...]:
    found = row.get(name, [])
    if not isinstance(found, list) or not all(isinstance(each, str) and each for each in found):
        raise ValueError(f'"{name}" must be a list of strings, not {json.dumps(found)}')
    return tuple(found)


def is_right(answer: str, wanted: Expected) -> bool:
    """Whether the answer holds it."""
    if wanted.number is not None:
        numbers = _NUMBER.findall(answer)
        return bool(numbers) and float(numbers[-1].replace(",", "")) == wanted.number
    return any(_holds(answer, word) for word in wanted.words) and not any(_holds(answer, no) for no in wanted.no_words)


def _holds(answer: str, word: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(word)}(?!\w)", answer, re.IGNORECASE) is not None
