"""Whether a text can be judged at all: is it text, and in a language that the models know."""

from __future__ import annotations

import re
import unicodedata
from typing import Final

SAMPLE_CHARS: Final = 4_096
NOT_TEXT_SHARE: Final = 0.10
ENCODED_SHARE: Final = 0.50
FOREIGN_LETTERS_SHARE: Final = 0.30
MIN_FOREIGN_WORDS: Final = 2

_NO_TEXT: Final = frozenset({"Cc", "Co", "Cn", "Cs"})
_LAYOUT: Final = frozenset("\n\r\t\f\v")
_WITHOUT_LAYOUT: Final = dict.fromkeys(map(ord, _LAYOUT))
_REPLACEMENT: Final = "\N{REPLACEMENT CHARACTER}"
# Base64, hexadecimal dumps, minified data: no language has such words.
_ENCODED: Final = re.compile(r"[A-Za-z0-9+/=_-]{64,}")
# Single letters are variables more often than words.
_WORD: Final = re.compile(r"[^\W\d_]{2,}")

_SIGN: Final = re.compile(r"[^\W_]")

_ENGLISH: Final = frozenset(
    "the a an of to and in is are was were for on with that this it as be by from at or what which who how why when "
    "where do does did can could would should will not you your i my we he she they his her their has have had there "
    "if than then but about into please me give write find".split()
)
# The commonest words of German, French, Spanish, Italian, Portuguese and Dutch, less those that English uses too.
_OTHER_LATIN: Final = frozenset(
    "der das und ist ich nicht ein eine einen den dem zu mit auf für von wie wir sind wird auch sie bitte warum "
    "le la les des une est et que qui dans pour pas sur avec je vous nous ce cette quel quelle comment pourquoi du au "
    "el los las una es y por para con no se su lo cómo qué cuál cuánto está del al "
    "il lo gli è che di per non con una sono come perché quale della "
    "o os um uma é não com como por são qual dos das "
    "het een en van niet dat ik hoe waarom zijn met voor".split()
) - set("a no do me die des per non con van met os dos o al es se come".split())


def says_nothing(text: str) -> bool:
    """There is neither a letter nor a digit in it."""
    return _SIGN.search(text) is None


def is_not_text(text: str) -> bool:
    """Much of it is control characters, unassigned code points, or encoded data."""
    sample = text[:SAMPLE_CHARS]
    if not sample:
        return False
    if not sample.translate(_WITHOUT_LAYOUT).isprintable():
        strange = sum(char == _REPLACEMENT or _is_strange(char) for char in sample)
        if strange > NOT_TEXT_SHARE * len(sample):
            return True
    elif _REPLACEMENT in sample and sample.count(_REPLACEMENT) > NOT_TEXT_SHARE * len(sample):
        return True
    encoded = sum(len(run) for run in _ENCODED.findall(sample))
    return encoded > ENCODED_SHARE * len(sample)


def is_unfamiliar_language(text: str) -> bool:
    """Written in another script than Latin, or by its commonest words in another language than English."""
    sample = text[:SAMPLE_CHARS]
    if sample.isascii() and _speaks_english(sample):
        return False
    letters = [char for char in sample if char.isalpha()]
    foreign = sum(not _is_latin(char) for char in letters)
    if foreign > FOREIGN_LETTERS_SHARE * max(1, len(letters)):
        return True
    words = [word.lower() for word in _WORD.findall(sample)]
    other, english = (sum(word in known for word in words) for known in (_OTHER_LATIN, _ENGLISH))
    return other >= MIN_FOREIGN_WORDS and other > english


def _speaks_english(sample: str) -> bool:
    """A quick yes for most prompts: an English word, and no sign of another language, near the beginning."""
    words = {word.lower() for word in _WORD.findall(sample[:256])}
    return not words.isdisjoint(_ENGLISH) and words.isdisjoint(_OTHER_LATIN)


def _is_strange(char: str) -> bool:
    return char not in _LAYOUT and unicodedata.category(char) in _NO_TEXT


def _is_latin(char: str) -> bool:
    # Letters up to U+024F are Latin with its accents; Greek single letters are common in formulas, but then few.
    return ord(char) < 0x250 or 0x1E00 <= ord(char) < 0x1F00
