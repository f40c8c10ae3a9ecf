"""What a text says in signs instead of words: operators with what they stand between, emoji, currencies."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# Signs that are written in several ways; after NFKC.
_SAME: Final = str.maketrans(
    {
        "→": "->",
        "←": "<-",
        "⇒": "=>",
        "≠": "!=",
        "≤": "<=",
        "≥": ">=",
        "×": "*",
        "÷": "/",
        "−": "-",
        "∧": "&&",
        "∨": "||",
    }
)
_OPERAND: Final = r"(?:[^\W_]+(?:[._][^\W_]+)*)"
# What stands between two operands says something else when they are exchanged; these do not.
_EITHER_WAY: Final = frozenset({"==", "===", "=", "!=", "!==", "<>", "&&", "||", "+", "*", "±", "≈", "≡"})
_AFTER: Final = frozenset({"++", "#"})
_BEFORE: Final = frozenset({"!"})
_ALIKE: Final = {"<>": "!=", "!==": "!=", "===": "=="}
_OPERATOR: Final = re.compile(
    r"<=>|===|!==|<>|==|!=|<=|>=|=>|->|<-|<<|>>|&&|\|\||\+\+|\+=|-=|\*=|/=|//|::|:=|[<>=|+^]"
    # Dash, star and stroke are mostly no operators: only with room on both sides or on none, or as a number's sign.
    r"|(?<=\w)\*\*?(?=\w)|(?<=\w\s)\*\*?(?=\s\w)|(?<=[\d)]\s)[-/](?=\s[\d(])|(?<=\b[^\W_]\s)[-/](?=\s[^\W_]\b)"
    r"|(?<![\w)\]-])-(?=\d)"
    r"|(?<=\w)#(?!\w)|(?<![\w!?.])!(?=[\w(])"
)
_BESIDE: Final = re.compile(rf"\s*({_OPERAND})")
_FLAG: Final = re.compile("[\U0001f1e6-\U0001f1ff]{2}")
_RESULT: Final = re.compile(r"=\s*(?:\?\s*)?$")
# Bullets, degrees (a unit) and rights: they say nothing of their own.
_SILENT: Final = frozenset("°©®™•·■□▪▫▲△►▶▼▽◄◀●○◦◯✓✔")
_JOINER: Final = "\u200d"
_TONES: Final = range(0x1F3FB, 0x1F400)
# How far an operand is looked for.
_NEAR_CHARS: Final = 48


@dataclass(frozen=True, slots=True)
class Signs:
    """`said` changes what is asked; `shown` stands before or after the words, and may be there for looks alone."""

    said: frozenset[str]
    shown: frozenset[str]


def signs(text: str) -> Signs:
    """The signs of a text, each written one way."""
    if text.isalnum() or not any(_counts(char) for char in set(text) if not char.isalnum()):
        return Signs(frozenset(), frozenset())
    plain = _RESULT.sub("", unicodedata.normalize("NFKC", text).translate(_SAME).lower())
    said = {_operation(plain, match) for match in _OPERATOR.finditer(plain)}
    first, last = _words(plain)
    shown: set[str] = set()
    for start, picture in _pictures(plain):
        (said if first <= start < last else shown).add(picture)
    return Signs(frozenset(said), frozenset(shown))


def _counts(char: str) -> bool:
    return char in "*-/#!?:&" or unicodedata.category(char) in {"Sm", "Sc", "So", "Sk"}


def _operation(text: str, match: re.Match[str]) -> str:
    sign = _ALIKE.get(match.group(), match.group())
    if sign in _EITHER_WAY:
        return sign
    if sign in _AFTER:
        return f"{_left(text, match)}{sign}"
    if sign in _BEFORE:
        return f"{sign}{_right(text, match)}"
    return f"{_left(text, match)}\0{sign}\0{_right(text, match)}"


def _left(text: str, match: re.Match[str]) -> str:
    found = _BESIDE.match(text[max(0, match.start() - _NEAR_CHARS) : match.start()][::-1])
    return found.group(1)[::-1] if found else ""


def _right(text: str, match: re.Match[str]) -> str:
    found = _BESIDE.match(text, match.end(), match.end() + _NEAR_CHARS)
    return found.group(1) if found else ""


def _pictures(text: str) -> list[tuple[int, str]]:
    """Emoji, with their tones and what is joined to them, flags, and signs of currencies that no unit stands for."""
    found: list[tuple[int, str]] = []
    at = 0
    while at < len(text):
        if flag := _FLAG.match(text, at):
            found.append((at, flag.group()))
            at = flag.end()
            continue
        category = unicodedata.category(text[at])
        if (category == "So" and text[at] not in _SILENT) or (category == "Sc" and text[at] not in "$€£¥₹"):
            end = at + 1
            while end < len(text) and (ord(text[end]) in _TONES or text[end] == _JOINER or text[end - 1] == _JOINER):
                end += 1
            found.append((at, text[at:end]))
            at = end
            continue
        at += 1
    return found


def _words(text: str) -> tuple[int, int]:
    """Where the words begin and end."""
    inside = [at for at, char in enumerate(text) if char.isalnum()]
    return (inside[0], inside[-1]) if inside else (0, 0)
