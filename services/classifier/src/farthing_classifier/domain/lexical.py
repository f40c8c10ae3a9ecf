"""What the surface of a text tells: counts and shares, cheap enough to compute for every prompt."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Final

from farthing_classifier.domain.wording import plain

# Of a longer text only both ends are counted, so that the time for it has a bound.
HEAD_CHARS: Final = 4_096
TAIL_CHARS: Final = 1_024

_SAMPLE_CHARS: Final = 2_048

_WORD: Final = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")

# Kinds of words, counted in one pass over a text's words.
_KINDS: Final = {
    "negations": "not no never none without except neither nor don't doesn't isn't aren't can't cannot won't wasn't "
    "didn't couldn't wouldn't shouldn't",
    "quantifiers": "each every all some any least most exactly only per twice half",
    "clauses": "and or but if then because while which that although unless",
    "who_what": "who what when where which whose whom",
    "how_why": "how why explain prove derive compare analyze analyse design evaluate justify",
    "amounts": "total average percent percentage sum difference many much cost price dollars hours miles",
    "steps": "step steps first second third then next finally after before",
    "form": "json csv table list bullet bullets format markdown yaml xml columns",
    "source_text": "passage article text email document paragraph message review following below above",
    "write": "write compose story poem essay letter song draft imagine haiku lyrics",
    "statement": "statement true false",
    "greeting": "hi hey hello thanks thank bye",
}
_KIND_NAMES: Final = tuple(_KINDS)
_KINDS_OF_WORD: Final[dict[str, tuple[int, ...]]] = {
    word: tuple(number for number, words in enumerate(_KINDS.values()) if word in words.split())
    for word in " ".join(_KINDS.values()).split()
}

# Marks, counted as matches.
_MARKS: Final = {
    "numbers": re.compile(r"\d+(?:[.,]\d+)*"),
    "operators": re.compile(r"[=+*/^<>≤≥≠±√∑∫×÷%]"),
    "latex": re.compile(r"\\[a-zA-Z]+|\$[^$\n]{1,200}\$"),
    "code": re.compile(
        r"```|[{};][ \t]{0,8}$|\w\(\w*\)|=>|->|::|==|!=|</?\w+>|^[ \t]{0,32}(?:def|class|import|return)\b", re.MULTILINE
    ),
    "options": re.compile(r"^[ \t]{0,8}\(?[A-Ha-h][).:]\s", re.MULTILINE),
    "pauses": re.compile(r"[,;:]"),
    "sentences": re.compile(r"[.!?。！？](?:\s|$)"),
    "blanks": re.compile(r"_{2,}|\.\.\.$"),
}

# Characters, counted by the runs that they come in.
_RUNS: Final = {
    "digit_share": re.compile(r"\d+"),
    "upper_share": re.compile(r"[A-Z]+"),
    "space_share": re.compile(r"\s+"),
    "non_ascii_share": re.compile(r"[^\x00-\x7f]+"),
}

NAMES: Final[tuple[str, ...]] = (
    "chars", "words", "word_length", "distinct_words", "lines", "question_marks", *_RUNS, *_MARKS, *_KIND_NAMES
)  # fmt: skip


def features(text: str) -> tuple[float, ...]:
    """One number for each of NAMES: counts as log(1 + n), the rest as shares or means. Courtesies do not count."""
    return features_of_plain(plain(text))


def features_of_plain(text: str) -> tuple[float, ...]:
    """The same, of a text that is plain."""
    length = len(text)
    if length > HEAD_CHARS + TAIL_CHARS:
        text = f"{text[:HEAD_CHARS]}\n{text[-TAIL_CHARS:]}"
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    sample = text[:_SAMPLE_CHARS]
    size = max(1, len(sample))
    return (
        math.log1p(length),
        math.log1p(len(words)),
        sum(map(len, words)) / max(1, len(words)),
        len(set(words)) / max(1, len(words)),
        math.log1p(text.count("\n")),
        math.log1p(text.count("?")),
        *(sum(map(len, run.findall(sample))) / size for run in _RUNS.values()),
        *(math.log1p(len(mark.findall(text))) for mark in _MARKS.values()),
        *map(math.log1p, _count_kinds(words)),
    )


def _count_kinds(words: Sequence[str]) -> list[int]:
    counts = [0] * len(_KIND_NAMES)
    for word in words:
        for kind in _KINDS_OF_WORD.get(word, ()):
            counts[kind] += 1
    return counts
