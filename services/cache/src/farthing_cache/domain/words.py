"""A text as the words that its rules read."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from farthing_cache.domain import lexicon

# Prompts beyond this are never compared by meaning: no encoder reads them whole.
MAX_CHARS: Final = 2_000

_TOKEN: Final = re.compile(
    r"[$€£¥₹%]|\d+(?:[.,:/-]\d+)*(?:st|nd|rd|th)?(?![^\W\d_])|[^\W_]+(?:['’.&+#-][^\W_]+)*(?:\+\+|#)?|[?!\n]",
    re.UNICODE,
)
_NUMBER_WITH_UNIT: Final = re.compile(r"(\d+(?:[.,]\d+)*)([^\W\d_]{1,12})", re.UNICODE)
_NAME_WITH_NUMBER: Final = re.compile(r"([^\W\d_]+)[-.]?(\d+(?:[.,]\d+)*)", re.UNICODE)
_GROUPED: Final = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_DEGREES: Final = re.compile(r"°\s?([CcFf])\b")
_IDEOGRAPHS: Final = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")
# What people say around a question.
_COURTESY: Final = re.compile(
    r"\b(?:thank(?:s| you)(?: (?:so|very) much)?(?: in advance)?|sorry (?:to|for) \w+(?: you)?|"
    r"good (?:morning|afternoon|evening)|"
    r"any help (?:is|would be) (?:welcome|appreciated)|(?:a )?quick question|just curious|"
    r"i(?: was|'m| am) (?:just )?wondering(?: if)?|"
    r"(?:can|could|would|will) (?:you|someone|anyone) (?:please )?(?:help me|tell me|explain(?: to me)?|let me know)|"
    r"i(?:'d| would) (?:like|love) to (?:know|ask)|i (?:want|need) to know|(?:please )?let me know|do you know)\b",
    re.IGNORECASE,
)
_ENDINGS: Final = (
    ("ies", "y"),
    ("sses", "ss"),
    ("ing", ""),
    ("ied", "y"),
    ("ed", ""),
    ("ly", ""),
    ("es", ""),
    ("s", ""),
)
_KEPT_WHOLE: Final = frozenset("s is us as ss".split())
_SHORTEST_STEM: Final = 3
_VERSION: Final = frozenset("v ver".split())


@dataclass(frozen=True, slots=True)
class Token:
    """One word: as it is compared, and whether it was written like a name. A mark (?) is a token too."""

    word: str
    capital: bool = False
    first: bool = False  # of a sentence, where a capital says nothing


def tokens(text: str) -> list[Token]:
    """The words of the first MAX_CHARS of a text, contractions and fixed phrases resolved, in order."""
    plain = _DEGREES.sub(_degrees, _COURTESY.sub(" ", unicodedata.normalize("NFKC", text[:MAX_CHARS])))
    return _joined(list(_expanded(plain)))


def _expanded(text: str) -> Iterator[Token]:
    first = True
    for match in _TOKEN.finditer(text):
        surface = match.group().replace("’", "'")
        if surface in "?!\n":
            yield Token(surface)
            first = True
            continue
        capital = surface[0].isupper()
        for word in _parts(surface.lower()):
            yield Token(word, capital and not word[0].isdigit(), first)
        first = text[match.end() : match.end() + 2] in (". ", ": ") and not surface[0].isdigit()


def _parts(word: str) -> tuple[str, ...]:
    if word in lexicon.CONTRACTIONS:
        return lexicon.CONTRACTIONS[word]
    for ending, meant in lexicon.ENDINGS.items():
        if word.endswith(ending) and len(word) > len(ending):
            stem = word[: -len(ending)]
            return (stem, meant) if meant else (stem,)
    if word[0].isdigit() and (split := _NUMBER_WITH_UNIT.fullmatch(word)):
        return _number_parts(*split.groups())
    if (split := _NAME_WITH_NUMBER.fullmatch(word)) is not None:
        return ("version" if split.group(1) in _VERSION else split.group(1), split.group(2))
    head, hyphen, rest = word.partition("-")
    if hyphen and rest and head in lexicon.NUMBER_WORDS:
        return (head, rest)
    if _IDEOGRAPHS.search(word):
        return tuple(word)
    return (word,)


def _degrees(match: re.Match[str]) -> str:
    return " celsius " if match.group(1) in "Cc" else " fahrenheit "


def _number_parts(number: str, unit: str) -> tuple[str, ...]:
    if unit in {"st", "nd", "rd", "th"}:
        return (number,)
    if unit == "k":
        return (number, "thousand")
    return (number, unit)


def _joined(found: list[Token]) -> list[Token]:
    """Phrases of several words become the one word that they mean."""
    if not any(token.word in lexicon.PHRASE_STARTS for token in found):
        return found
    joined: list[Token] = []
    at = 0
    while at < len(found):
        size, word = _phrase(found, at)
        joined.append(Token(word, found[at].capital, found[at].first) if size > 1 else found[at])
        at += size
    return joined


def _phrase(found: list[Token], at: int) -> tuple[int, str]:
    if found[at].word in lexicon.PHRASE_STARTS:
        for size in range(min(lexicon.LONGEST_PHRASE, len(found) - at), 1, -1):
            meant = lexicon.PHRASES.get(tuple(token.word for token in found[at : at + size]))
            if meant is not None:
                return size, meant
    return 1, found[at].word


def number(word: str, *, measured: bool = False) -> str | None:
    """The number that a word is, written one way: "1,000" and "thousand" are 1000; None for other words. What is
    `measured`, in units or money, is as much with zeros behind it: 1.50 is 1.5 there. A version is another one."""
    if not word[0].isdigit():
        return lexicon.NUMBER_WORDS.get(word)
    plain = word.rstrip("stndrh")
    plain = plain.replace(",", "") if _GROUPED.fullmatch(plain) else plain.replace(",", ".", plain.count(",") == 1)
    if measured and plain.count(".") == 1:
        plain = plain.rstrip("0").rstrip(".")
    return plain.lstrip("0") or "0"


def stem(word: str) -> str:
    """The word that stands for all of its forms and synonyms."""
    same = lexicon.SAME.get(word)
    if same is not None:
        return same
    short = _stem(word)
    return lexicon.SAME.get(short, short)


def _stem(word: str) -> str:
    if word in _KEPT_WHOLE or len(word) <= _SHORTEST_STEM or word.endswith("ss"):
        return word
    for ending, replacement in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= _SHORTEST_STEM:
            return _undoubled(word[: -len(ending)] + replacement, ending)
    return word.rstrip("e") if len(word) > _SHORTEST_STEM + 1 else word


def _undoubled(word: str, ending: str) -> str:
    if ending in {"ing", "ed"} and len(word) > _SHORTEST_STEM and word[-1] == word[-2] and word[-1] not in "ls":
        return word[:-1]
    return word.rstrip("e") if len(word) > _SHORTEST_STEM + 1 else word
