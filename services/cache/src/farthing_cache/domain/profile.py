"""What is kept of a prompt so that another can be compared with it: keyed hashes and counts, never its words."""

from __future__ import annotations

import hashlib
import struct
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from itertools import pairwise
from typing import Final

from farthing_cache.domain import lexicon
from farthing_cache.domain.question import Question, Tense, question, tense
from farthing_cache.domain.signs import Signs, signs
from farthing_cache.domain.words import MAX_CHARS, Token, number, stem, tokens

# Of the bytes; pair_features has one of its own for what the verifier was trained on.
VERSION: Final = 2
MAX_WORDS: Final = 64
MAX_OPPOSITES: Final = 24
SKETCH_BYTES: Final = 32
MAX_SIGNS: Final = 16
MAX_BYTES: Final = 640

_HASH_BYTES: Final = 3
_HEADER: Final = struct.Struct(
    ">BBBBIHHBBBBB"
)  # version, question, language, negations, quantifiers, traits, size, words, opposites, signs said and shown, tense
_WORD: Final = struct.Struct(">HBBH")
_GRAM: Final = 3


class Kind(IntEnum):
    """What a word is."""

    WORD = 0
    NAME = 1
    NUMBER = 2
    UNIT = 3
    DATE = 4


class Trait(IntFlag):
    """What decides whether a text may be compared at all."""

    NONE = 0
    LONG = 1 << 0  # more than is compared
    BACKWARD = 1 << 1  # points to what was said before
    ELLIPSIS = 1 << 2  # says too little to stand alone
    TIME = 1 << 3  # its answer depends on when it is asked
    PERSONAL = 1 << 4  # its answer depends on who asks
    MIXED_SCRIPT = 1 << 5  # a word of two scripts: a look-alike
    DEFINITE = 1 << 6  # speaks of "the" thing, and names none


@dataclass(frozen=True, slots=True)
class Word:
    """A word that says something: its keyed hash, what it is, and the class of the preposition before it."""

    hash: int
    kind: Kind
    role: int
    letters: int  # which letters it has, in 16 classes that the key chooses: a misspelled word keeps nearly all


@dataclass(frozen=True, slots=True)
class Profile:
    """A prompt, as far as vetoes and features need it. Comparable only with profiles made under the same key."""

    question: Question
    language: int
    negations: int
    quantifiers: int
    traits: Trait
    size: int  # all words, also those that say nothing
    words: tuple[Word, ...]
    opposites: frozenset[int]  # hashes of words that would turn the sentence round
    sketch: int  # keyed hashes of letter triples, as bits: near-equal spellings share most
    said: frozenset[int] = frozenset()  # hashes of signs that are part of what is asked
    shown: frozenset[int] = frozenset()  # … and of those around it
    tense: Tense = Tense.NONE

    def to_bytes(self) -> bytes:
        """At most MAX_BYTES."""
        opposites, said, shown = sorted(self.opposites), sorted(self.said), sorted(self.shown)
        parts = [
            _HEADER.pack(
                VERSION,
                self.question,
                self.language,
                self.negations,
                self.quantifiers,
                self.traits,
                self.size,
                len(self.words),
                len(opposites),
                len(said),
                len(shown),
                self.tense,
            ),
            self.sketch.to_bytes(SKETCH_BYTES, "big"),
            *(
                _WORD.pack(word.hash >> 8, word.hash & 255, word.kind << 4 | word.role, word.letters)
                for word in self.words
            ),
            *(one.to_bytes(_HASH_BYTES, "big") for one in (*opposites, *said, *shown)),
        ]
        return b"".join(parts)

    @classmethod
    def from_bytes(cls, kept: bytes) -> Profile:
        """What to_bytes wrote; ValueError for anything else."""
        try:
            version, question, language, negations, quantifiers, traits, size, *counts, tense = _HEADER.unpack_from(
                kept
            )
        except struct.error:
            raise ValueError("not a profile") from None
        body = kept[_HEADER.size + SKETCH_BYTES :]
        words, opposites, said, shown = counts
        split = words * _WORD.size
        if version != VERSION or len(body) != split + (opposites + said + shown) * _HASH_BYTES:
            raise ValueError("not a profile of this version")
        hashes = [int.from_bytes(body[at : at + _HASH_BYTES], "big") for at in range(split, len(body), _HASH_BYTES)]
        return cls(
            Question(question),
            language,
            negations,
            quantifiers,
            Trait(traits),
            size,
            tuple(
                Word(high << 8 | low, Kind(flags >> 4), flags & 15, letters)
                for high, low, flags, letters in _WORD.iter_unpack(body[:split])
            ),
            frozenset(hashes[:opposites]),
            int.from_bytes(kept[_HEADER.size : _HEADER.size + SKETCH_BYTES], "big"),
            frozenset(hashes[opposites : opposites + said]),
            frozenset(hashes[opposites + said :]),
            Tense(tense),
        )


def of(text: str, key: bytes) -> Profile:
    """The profile of a text under an organisation's key (16 to 64 bytes)."""
    found = tokens(text)
    spoken = [token for token in found if token.word not in "?!\n"]
    lower = [token.word for token in spoken]
    hasher = _Hasher(key)
    words = _words(spoken, hasher)
    found_signs = signs(text[:MAX_CHARS])
    return Profile(
        question=question(lower, asked=any(token.word == "?" for token in found)),
        language=_language(text[:MAX_CHARS], lower),
        negations=min(255, sum(word in lexicon.NEGATIONS for word in lower)),
        quantifiers=_mask(lower),
        traits=_traits(text, lower, words) | _too_many(found_signs),
        size=min(65_535, len(lower)),
        words=tuple(words[:MAX_WORDS]),
        opposites=_opposites(lower, hasher),
        sketch=_sketch(lower, hasher),
        said=frozenset(map(hasher, sorted(found_signs.said)[:MAX_SIGNS])),
        shown=frozenset(map(hasher, sorted(found_signs.shown)[:MAX_SIGNS])),
        tense=tense(lower),
    )


class _Hasher:
    def __init__(self, key: bytes) -> None:
        self._keyed = hashlib.blake2b(key=key, digest_size=_HASH_BYTES)
        classes = hashlib.blake2b(b"letters", key=key, digest_size=len(_LETTERS)).digest()
        self._bits = {letter: 1 << (one & 15) for letter, one in zip(_LETTERS, classes, strict=True)}

    def __call__(self, word: str) -> int:
        one = self._keyed.copy()
        one.update(word.encode("utf-8", "replace"))
        return int.from_bytes(one.digest(), "big")

    def letters(self, word: str) -> int:
        mask = 0
        for letter in set(word):
            mask |= self._bits.get(letter, 0)
        return mask


_LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"


def _words(spoken: Sequence[Token], hasher: _Hasher) -> list[Word]:
    shouted = sum(token.capital for token in spoken) > 0.6 * len(spoken) and len(spoken) > 3
    words: list[Word] = []
    role = 0
    after_number = False
    before = ""
    for at, token in enumerate(spoken, start=1):
        word, asked, before_that = token.word, before in {"what", "which"}, before
        before = word
        if word in lexicon.ROLES and not (word == "on" and at == len(spoken)):
            role = lexicon.ROLES[word]
            continue
        measured = before_that in lexicon.CURRENCIES or (at < len(spoken) and spoken[at].word in lexicon.UNITS)
        kind, value = _kind(token, shouted=shouted, after_number=after_number, measured=measured)
        after_number = kind is Kind.NUMBER
        if (kind is Kind.UNIT and asked) or (kind is Kind.WORD and word in _SILENT and word != "on"):
            continue
        words.append(Word(hasher(value), kind, role, hasher.letters(word)))
        role = 0
    return words


_SILENT: Final = lexicon.STOP | lexicon.PREPOSITIONS | lexicon.NEGATIONS


def _kind(token: Token, *, shouted: bool, after_number: bool, measured: bool) -> tuple[Kind, str]:
    word = token.word
    if (value := number(word, measured=measured)) is not None:
        return Kind.NUMBER, value
    if word in lexicon.UNITS and (after_number or word not in lexicon.UNITS_AFTER_NUMBERS):
        return Kind.UNIT, lexicon.UNITS[word]
    if (date := _date(token)) is not None:
        return Kind.DATE, date
    if word in lexicon.NAMES:
        return Kind.NAME, word
    named = token.capital and not token.first and not shouted and word not in lexicon.STOP
    return (Kind.NAME if named else Kind.WORD), stem(word)


def _date(token: Token) -> str | None:
    word = lexicon.SHORT_DATES.get(token.word, token.word)
    if word in lexicon.WEEKDAYS:
        return word
    if word in lexicon.MONTHS and (word not in {"may", "march"} or (token.capital and not token.first)):
        return word
    return None


def _mask(lower: Sequence[str]) -> int:
    mask = 0
    for before, word in pairwise(["", *lower]):
        if word not in lexicon.RANKS or before in _RANKED:
            mask |= lexicon.QUANTIFIERS.get(word, 0)
    return mask


_RANKED: Final = frozenset("the my your his her its our their".split())


def _opposites(lower: Sequence[str], hasher: _Hasher) -> frozenset[int]:
    present = {stem(word) for word in lower} | set(lower)
    turned: set[str] = set()
    for word in lower:
        turned.update(stem(other) for other in lexicon.OPPOSITES.get(word, ()))
        turned.update(stem(other) for other in lexicon.OPPOSITES.get(stem(word), ()))
        if word not in lexicon.NOT_PREFIXED and (base := _unprefixed(word)):
            turned.add(stem(base))
    return frozenset(hasher(word) for word in sorted(turned - present)[:MAX_OPPOSITES])


def _unprefixed(word: str) -> str | None:
    for prefix in lexicon.NEGATING_PREFIXES:
        if word.startswith(prefix) and len(word) - len(prefix) >= 4:
            return word[len(prefix) :]
    return None


def _sketch(lower: Sequence[str], hasher: _Hasher) -> int:
    sketch = 0
    joined = f" {' '.join(lower[:MAX_WORDS])} "
    for gram in {joined[at : at + _GRAM] for at in range(len(joined) - _GRAM + 1)}:
        sketch |= 1 << (hasher(gram) % (SKETCH_BYTES * 8))
    return sketch


# Languages are numbered from 1; 0 is "cannot tell". Other scripts follow.
_LANGUAGE_NUMBERS: Final = {name: number for number, name in enumerate(lexicon.LANGUAGES, start=1)}
ENGLISH: Final = _LANGUAGE_NUMBERS["en"]
_SCRIPTS: Final = (
    "CYRILLIC",
    "GREEK",
    "ARABIC",
    "HEBREW",
    "DEVANAGARI",
    "CJK",
    "HIRAGANA",
    "KATAKANA",
    "HANGUL",
    "THAI",
)
_FIRST_SCRIPT: Final = 32
_SAMPLE: Final = 64


def _language(text: str, lower: Sequence[str]) -> int:
    if not text.isascii():
        letters = [letter for letter in text if ord(letter) > 0x36F and letter.isalpha()][:_SAMPLE]
        if 2 * len(letters) > min(_SAMPLE, sum(map(str.isalpha, text))):
            return _script(letters[0])
    counts = {name: sum(word in common for word in lower) for name, common in lexicon.LANGUAGES.items()}
    best = max(counts, key=lambda name: counts[name])
    return (
        _LANGUAGE_NUMBERS[best]
        if counts[best] > (counts["en"] if best != "en" else 0) and counts[best] > 1
        else (ENGLISH if counts["en"] else 0)
    )


def _script(letter: str) -> int:
    name = unicodedata.name(letter, "")
    for at, script in enumerate(_SCRIPTS):
        if name.startswith(script):
            return _FIRST_SCRIPT + at
    return 255


def _traits(text: str, lower: Sequence[str], words: Sequence[Word]) -> Trait:
    traits = Trait.NONE
    if len(text) > MAX_CHARS or len(words) > MAX_WORDS:
        traits |= Trait.LONG
    if any(word in lexicon.BACKWARD for word in lower):
        traits |= Trait.BACKWARD
    if "the" in lower and not any(word.kind is Kind.NAME for word in words):
        traits |= Trait.DEFINITE
    if len(words) < 2 or lower[:2] in (["what", "about"], ["how", "about"], ["and", "what"], ["and", "how"]):
        traits |= Trait.ELLIPSIS
    if _depends_on_time(lower):
        traits |= Trait.TIME
    if _is_personal(lower):
        traits |= Trait.PERSONAL
    if not text.isascii() and any(map(_is_mixed, lower)):
        traits |= Trait.MIXED_SCRIPT
    return traits


def _too_many(found: Signs) -> Trait:
    """More signs than are kept are never compared."""
    return Trait.LONG if max(len(found.said), len(found.shown)) > MAX_SIGNS else Trait.NONE


def _depends_on_time(lower: Sequence[str]) -> bool:
    if any(word in lexicon.TIME_WORDS for word in lower):
        return True
    return any(
        (one in {"this", "next", "last"} and two in lexicon.TIME_SPANS) or (one, two) == ("right", "now")
        for one, two in pairwise(lower)
    )


def _is_personal(lower: Sequence[str]) -> bool:
    for at, word in enumerate(lower):
        if word in lexicon.POSSESSIVES and any(near in lexicon.PERSONAL for near in lower[at + 1 : at + 4]):
            return True
    return lower[:3] in (["who", "am", "i"], ["where", "am", "i"], ["what", "did", "i"])


def _is_mixed(word: str) -> bool:
    if word.isascii():
        return False
    scripts = {unicodedata.name(letter, "?").split()[0] for letter in word if letter.isalpha()}
    return len(scripts & {"LATIN", "CYRILLIC", "GREEK"}) > 1
