"""The same question with its words in another order: what a verifier must not take for a trap."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from typing import Final

_WORD: Final = r"[A-Za-z][\w-]{2,}"
_JOINED: Final = re.compile(
    rf"\b(between|both|either|compare) ({_WORD}(?: {_WORD})?) (and|or) ({_WORD}(?: {_WORD})?)(?=[?.,]|$)"
)
_OR: Final = re.compile(rf"(?<=[ ,:])({_WORD}) or ({_WORD})(?=\?|$)")
_OWNED: Final = re.compile(
    rf"\b(?<![A-Za-z]-)(?:the )?({_WORD}) (of|for) ({_WORD})(?=[?.,]|$| (?:is|are|was|were|in|on|by|to)\b)"
)
_LAST_PART: Final = re.compile(
    rf"^(.+\S) (in|during|on|at|for|with|after|before) ((?:the |a |an |my )?{_WORD}(?: {_WORD})?)\?$"
)
_FIRST_PART: Final = re.compile(
    rf"^(In|During|On|At|For|With|After|Before) ((?:the |a |an |my )?{_WORD}(?: {_WORD})?), (.+)\?$"
)
_WHICH_IS: Final = re.compile(
    r"^(Which|What) ([a-z]\w+(?: [a-z]\w+)?) (is|are|was|were) (?:the )?"
    r"((?:most|least) \w+|best|worst|\w{3,}est)\b(.*)$"
)
_NO_NOUNS: Final = frozenset(
    "one all some any most many much least each both that this which what who time way".split()
)
_LEAST_LEFT: Final = 4  # words
_MOST: Final = 24  # words of a text whose parts may be moved


def reordered(text: str, chance: random.Random) -> str | None:
    """The text in another order that means the same; None where it has no such part."""
    if len(text.split()) > _MOST or re.search(r"[.!?] ", text):
        return None
    for reorder in chance.sample(_REORDERINGS, len(_REORDERINGS)):
        if (found := reorder(text)) is not None and found != text:
            return found
    return None


def _joined(text: str) -> str | None:
    """ "Between tea and coffee": "between coffee and tea"."""
    match = _JOINED.search(text)
    if match is not None:
        return f"{text[: match.start(2)]}{match[4]} {match[3]} {match[2]}{text[match.end() :]}"
    match = _OR.search(text)
    return f"{text[: match.start()]}{match[2]} or {match[1]}{text[match.end() :]}" if match is not None else None


def _owned(text: str) -> str | None:
    """ "Treatment of asthma": "asthma treatment"."""
    match = _OWNED.search(text)
    if match is None or {match[1].lower(), match[3].lower()} & _NO_NOUNS:
        return None
    return f"{text[: match.start(1)]}{match[3]} {match[1]}{text[match.end() :]}"


def _fronted(text: str) -> str | None:
    """ "How do I sort a list in Python?": "In Python, how do I sort a list?", and back."""
    if (match := _FIRST_PART.match(text)) is not None:
        return f"{match[3][0].upper()}{match[3][1:]} {match[1].lower()} {match[2]}?"
    match = _LAST_PART.match(text)
    if match is not None and len(match[1].split()) >= _LEAST_LEFT and match[3].lower() not in _NO_NOUNS:
        head, rest = match[1].split(" ", 1)
        return f"{match[2].capitalize()} {match[3]}, {head.lower() if head != 'I' else head} {rest}?"
    return None


def _which_is(text: str) -> str | None:
    """ "Which laptop is best?": "Which is the best laptop?"."""
    match = _WHICH_IS.match(text)
    return f"{match[1]} {match[3]} the {match[4]} {match[2]}{match[5]}" if match is not None else None


_REORDERINGS: Final[tuple[Callable[[str], str | None], ...]] = (_joined, _owned, _fronted, _which_is)
