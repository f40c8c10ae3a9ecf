"""Regular expressions that read a text in linear time, whatever is in it.

`re` tries one way through a pattern after another: where parts may repeat and share words, the ways double with each
word. Here all ways are gone at once. A set of places in the text is the bits of one integer; each part of a pattern
takes the places where it may begin to those where it may end. A repeated part goes on from new places only, so that
none is left twice.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, lru_cache
from itertools import groupby
from typing import Any, Final

# The parser of `re` itself: a pattern means here what it means there.
_parser: Final[Any] = importlib.import_module("re._parser")
_FLAGS: Final = re.IGNORECASE | re.DOTALL
# For so many characters it is remembered which ways of a pattern begin with them.
MAX_CHARS: Final = 256


class LinearPattern:
    """A pattern as `re` has it with IGNORECASE and DOTALL. Groups hold no text, and no repetition is lazy or
    possessive: there is no order in which ways are tried. Of look-around, only what looks ahead."""

    def __init__(self, pattern: str) -> None:
        self._walk = _sequence(_parser.parse(pattern, _FLAGS)).walk

    def fullmatch(self, text: str) -> bool:
        """Whether all of the text is what the pattern says."""
        return bool(self._walk(_Text.of(text), 1) >> len(text))

    def match(self, text: str) -> int | None:
        """Where the longest beginning of the text ends that is what the pattern says."""
        ends = self._walk(_Text.of(text), 1)
        return ends.bit_length() - 1 if ends else None


class _Chars:
    """Some characters: those that pass a test, which is asked once for each that is ASCII."""

    def __init__(self, test: Callable[[str], bool]) -> None:
        self._test = test
        self._ascii = frozenset(char for char in map(chr, range(128)) if test(char))

    def __contains__(self, char: str) -> bool:
        return char in self._ascii if char.isascii() else self._test(char)


@dataclass(slots=True)
class _Text:
    """A text in small letters, where its characters are, and from where each repeated part was left."""

    chars: str
    places: dict[str, int] | None = None
    found: dict[_Chars, int] = field(default_factory=dict)
    left: dict[object, int] = field(default_factory=dict)

    @classmethod
    def of(cls, text: str) -> _Text:
        if text.isascii():
            return cls(text.lower())
        return cls("".join(low if len(low := char.lower()) == 1 else char for char in text))

    def where(self, chars: _Chars) -> int:
        """The places of these characters."""
        if self.places is None:
            self.places = {}
            for place, char in enumerate(self.chars):
                self.places[char] = self.places.get(char, 0) | 1 << place
        if (found := self.found.get(chars)) is None:
            found = self.found[chars] = sum(places for char, places in self.places.items() if char in chars)
        return found

    def among(self, chars: _Chars, places: int) -> int:
        """Those of the places that hold one of the characters."""
        if places & (places - 1):
            return places & self.where(chars)
        at = places.bit_length() - 1
        return places if at < len(self.chars) and self.chars[at] in chars else 0


_Walk = Callable[[_Text, int], int]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a pattern: from the places where it may begin to those where it may end. It begins with one of the
    characters of `first`, unless it may also be empty."""

    walk: _Walk
    first: tuple[_Chars, ...] = ()
    may_be_empty: bool = True

    def may_begin_with(self, char: str) -> bool:
        """Whether there is any use in trying it there; char is empty at the end of a text."""
        return self.may_be_empty or (char != "" and any(char in chars for chars in self.first))


def _sequence(parts: Iterable[tuple[object, Any]]) -> _Part:
    made: list[_Part] = []
    for literal, run in groupby(parts, lambda part: str(part[0]) == "LITERAL"):
        some = list(run)
        if literal:
            made.append(_word("".join(chr(code) for _, code in some).lower()))
        else:
            made += [_part(str(kind), value) for kind, value in some]
    return _chain(made)


def _word(word: str) -> _Part:
    def walk(text: _Text, starts: int) -> int:
        ends = 0
        while starts:
            start = starts & -starts
            starts ^= start
            if text.chars.startswith(word, start.bit_length() - 1):
                ends |= start << len(word)
        return ends

    return _Part(walk, (_chars("LITERAL", ord(word[0])),), False)


def _chain(parts: list[_Part]) -> _Part:
    walks = [part.walk for part in parts]

    def walk(text: _Text, starts: int) -> int:
        for step in walks:
            if not starts:
                break
            starts = step(text, starts)
        return starts

    first: tuple[_Chars, ...] = ()
    for part in parts:
        first += part.first
        if not part.may_be_empty:
            return _Part(walk, first, False)
    return _Part(walk, first)


def _part(kind: str, value: Any) -> _Part:
    match kind:
        case "BRANCH":
            return _branch([_sequence(way) for way in value[1]])
        case "SUBPATTERN":
            return _sequence(value[3])
        case "MAX_REPEAT":
            return _repeat(*value)
        case "AT":
            return _at(str(value))
        case "ASSERT" | "ASSERT_NOT" if value[0] == 1:
            return _ahead(_sequence(value[1]), wanted=kind == "ASSERT")
        case _:
            chars = _chars(kind, tuple(value) if isinstance(value, list) else value)
            return _Part(lambda text, starts: text.among(chars, starts) << 1, (chars,), False)


def _branch(ways: list[_Part]) -> _Part:
    """From one place, only the ways that begin with its character are tried."""

    @lru_cache(MAX_CHARS)
    def beginning_with(char: str) -> list[_Walk]:
        return [way.walk for way in ways if way.may_begin_with(char)]

    def walk(text: _Text, starts: int) -> int:
        ends = 0
        while starts:
            start = starts & -starts
            starts ^= start
            for step in beginning_with(text.chars[(at := start.bit_length() - 1) : at + 1]):
                ends |= step(text, start)
        return ends

    first = tuple(chars for way in ways for chars in way.first)
    return _Part(walk, first, any(way.may_be_empty for way in ways))


def _repeat(least: int, most: int, parts: Any) -> _Part:
    first = [_sequence(parts) for _ in range(least)]
    if most is _parser.MAXREPEAT:
        return _chain([*first, _star(parts)])
    more = [_sequence(parts).walk for _ in range(most - least)]

    def walk(text: _Text, starts: int) -> int:
        ends = starts
        for step in more:
            if not starts:
                break
            starts = step(text, starts)
            ends |= starts
        return ends

    return _chain([*first, _Part(walk, _sequence(parts).first)])


def _star(parts: Any) -> _Part:
    part, me = _sequence(parts), object()
    if len(parts) == 1 and str(parts[0][0]) in ("LITERAL", "NOT_LITERAL", "IN", "ANY"):
        chars = part.first[0]
        return _Part(lambda text, starts: _over(text.where(chars), starts), part.first)

    def walk(text: _Text, starts: int) -> int:
        ends, new = starts, starts & ~text.left.get(me, 0)
        while new:
            text.left[me] = text.left.get(me, 0) | new
            reached = part.walk(text, new)
            ends |= reached
            new = reached & ~text.left[me]
        return ends

    return _Part(walk, part.first)


def _over(places: int, starts: int) -> int:
    """All that is reached from the starts over places that touch: the carry of a sum runs over them."""
    return (((starts & places) + places) ^ places) | starts


def _at(value: str) -> _Part:
    match value:
        case "AT_BOUNDARY":
            return _Part(lambda text, starts: starts & ((word := text.where(_WORD)) ^ word << 1))
        case "AT_END_STRING":
            return _Part(lambda text, starts: starts & 1 << len(text.chars))
        case _:
            raise ValueError(f"a linear pattern cannot hold {value}")


def _ahead(part: _Part, *, wanted: bool) -> _Part:
    """Looks from each place alone: only for what looks at a word or two."""

    def walk(text: _Text, starts: int) -> int:
        kept, rest, left = 0, starts, text.left
        while rest:
            place = rest & -rest
            rest ^= place
            text.left = {}
            kept |= place if bool(part.walk(text, place)) is wanted else 0
        text.left = left
        return kept

    return _Part(walk)


_WORD: Final = _Chars(lambda char: char.isalnum() or char == "_")
_CATEGORIES: Final[dict[str, Callable[[str], bool]]] = {
    "CATEGORY_SPACE": str.isspace,
    "CATEGORY_NOT_SPACE": lambda char: not char.isspace(),
    "CATEGORY_DIGIT": str.isdecimal,
    "CATEGORY_NOT_DIGIT": lambda char: not char.isdecimal(),
    "CATEGORY_WORD": lambda char: char in _WORD,
    "CATEGORY_NOT_WORD": lambda char: char not in _WORD,
}


@cache
def _chars(kind: str, value: Any) -> _Chars:
    """Equal characters are one object, so that each is looked up once in a text."""
    return _Chars(_test(kind, value))


def _test(kind: str, value: Any) -> Callable[[str], bool]:
    match kind:
        case "LITERAL":
            return chr(value).lower().__eq__
        case "NOT_LITERAL":
            return chr(value).lower().__ne__
        case "ANY":
            return lambda char: True
        case "RANGE":
            low, high = map(chr, value)
            return lambda char: low <= char <= high or low <= char.upper() <= high
        case "CATEGORY":
            return _CATEGORIES[str(value)]
        case "IN":
            negated = str(value[0][0]) == "NEGATE"
            tests = [_test(str(each), what) for each, what in value[negated:]]
            return lambda char: any(test(char) for test in tests) is not negated
        case _:
            raise ValueError(f"a linear pattern cannot hold {kind}")
