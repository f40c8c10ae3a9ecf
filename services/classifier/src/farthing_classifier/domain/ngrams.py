"""The words of a text, one by one and two by two, as numbers of buckets: what the first stage reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Final
from zlib import crc32

from farthing_classifier.domain.wording import plain

# Bucket 0 means nothing: a text without words has it alone.
BUCKETS: Final = 65_536
MAX_BUCKETS_OF_TEXT: Final = 512
# Of a longer text the first and the last words are read: 2 x (192 + 64) n-grams at most.
HEAD_WORDS: Final = 192
TAIL_WORDS: Final = 64
READ_CHARS: Final = 8_192
DESCRIPTION: Final = (
    "lower-case words and numbers of the text without courtesies, alone and in pairs joined by a blank; "
    "bucket = 1 + crc32(utf-8) mod 65535, each bucket once, in rising order; the first 192 and last 64 words"
)

_WORD: Final = re.compile(r"[^\W_]+(?:'[^\W\d_]+)?")


def words(text: str) -> list[str]:
    """The words that are read: case, white space, punctuation and courtesies make no difference."""
    return _words_of_plain(plain(text))


def _words_of_plain(read: str) -> list[str]:
    if len(read) > 2 * READ_CHARS:
        read = f"{read[:READ_CHARS]}\n{read[-READ_CHARS:]}"
    found = _WORD.findall(read.lower())
    return found if len(found) <= HEAD_WORDS + TAIL_WORDS else found[:HEAD_WORDS] + found[-TAIL_WORDS:]


def buckets(text: str) -> list[int]:
    """The buckets of a text, at least one and at most MAX_BUCKETS_OF_TEXT, in rising order."""
    return buckets_of_plain(plain(text))


def buckets_of_plain(read: str) -> list[int]:
    """The same, of a text that is plain."""
    found = _words_of_plain(read)
    return sorted({bucket(gram) for gram in (*found, *_pairs(found))}) or [0]


def bucket(gram: str) -> int:
    """The bucket of one n-gram; never 0."""
    return 1 + crc32(gram.encode("utf-8", "replace")) % (BUCKETS - 1)


def _pairs(found: Sequence[str]) -> list[str]:
    return [f"{first} {second}" for first, second in pairwise(found)]
