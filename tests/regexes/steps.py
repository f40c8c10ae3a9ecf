"""How many steps a backtracking matcher takes: the algorithm of `re`, over the tree of its own parser, counted.

A count is the same on every machine, so a test may compare the counts of texts of two lengths. That the algorithm is
the same is seen from what it finds: the tests compare that with what `re` finds.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

parser: Any = importlib.import_module("re._parser")
ONE_CHAR = ("LITERAL", "NOT_LITERAL", "ANY", "IN", "RANGE", "CATEGORY")

# Goes on from a place; true when all that follows matched.
Go = Callable[[int], bool]
# A part of a pattern, tried at a place.
Part = Callable[[int, Go], bool]
Test = Callable[[str], bool]


class TooManySteps(Exception):
    """The pattern is not linear, or far from it."""


class Counting:
    """One pattern, tried on one text after another: `steps` are those on the last."""

    def __init__(self, pattern: str | bytes, flags: int) -> None:
        tree = parser.parse(pattern, flags & ~re.DEBUG)
        self._groups: dict[int, tuple[int, int]] = {}
        self.read("", 0)
        self._whole = self._sequence(tree, tree.state.flags)

    def read(self, text: str, most: int) -> None:
        """The next text, and how many steps are too many."""
        self.steps = 0
        self._text, self._most = text, most
        self._groups.clear()

    def spans(self) -> list[tuple[int, int]]:
        """What finditer finds."""
        return list(self._spans())

    def _spans(self) -> Iterator[tuple[int, int]]:
        start, after_empty = 0, False
        while start <= len(self._text):
            end = self.end_from(start, not_empty=after_empty)
            if end is None:
                start, after_empty = start + 1, False
            else:
                yield start, end
                start, after_empty = end, True

    def end_from(self, start: int, *, not_empty: bool = False, whole: bool = False) -> int | None:
        """Where a match from here ends."""
        ends: list[int] = []

        def done(end: int) -> bool:
            if (not_empty and end == start) or (whole and end != len(self._text)):
                return False
            ends.append(end)
            return True

        return ends[0] if self._whole(start, done) else None

    def _tick(self, steps: int = 1) -> None:
        self.steps += steps
        if self.steps > self._most:
            raise TooManySteps

    # ------------------------------------------------------------------------------------------------------ the parts

    def _sequence(self, nodes: Any, flags: int) -> Part:
        parts = [self._part(str(kind), value, flags) for kind, value in nodes]

        def at(index: int, place: int, go: Go) -> bool:
            if index == len(parts):
                return go(place)
            return parts[index](place, lambda end: at(index + 1, end, go))

        return lambda place, go: at(0, place, go)

    def _part(self, kind: str, value: Any, flags: int) -> Part:
        if kind in ONE_CHAR:
            return self._one(self._test(kind, value, flags))
        match kind:
            case "BRANCH":
                return self._branch([self._sequence(way, flags) for way in value[1]])
            case "SUBPATTERN":
                group, added, removed, nodes = value
                return self._group(group, self._sequence(nodes, (flags | added) & ~removed))
            case "ATOMIC_GROUP":
                return self._atomic(self._sequence(value, flags))
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                return self._repeat(kind, value[0], value[1], value[2], flags)
            case "ASSERT" | "ASSERT_NOT":
                return self._look(value[0], value[1], flags, wanted=kind == "ASSERT")
            case "AT":
                return self._at(str(value), flags)
            case "GROUPREF":
                return self._again(value)
            case _:
                raise NotImplementedError(f"a pattern with {kind} cannot be counted yet")

    def _one(self, test: Test) -> Part:
        def run(place: int, go: Go) -> bool:
            self._tick()
            return place < len(self._text) and test(self._text[place]) and go(place + 1)

        return run

    def _branch(self, ways: list[Part]) -> Part:
        def run(place: int, go: Go) -> bool:
            for way in ways:  # noqa: SIM110 # any() would go through C, whose stack is short
                if way(place, go):
                    return True
            return False

        return run

    def _group(self, number: int | None, part: Part) -> Part:
        if number is None:
            return part

        def run(place: int, go: Go) -> bool:
            def kept(end: int) -> bool:
                before = self._groups.get(number)
                self._groups[number] = (place, end)
                if go(end):
                    return True
                if before is not None:
                    self._groups[number] = before
                return False

            return part(place, kept)

        return run

    def _again(self, number: int) -> Part:
        def run(place: int, go: Go) -> bool:
            start, end = self._groups.get(number, (0, -1))
            self._tick(max(1, end - start))
            there = self._text.startswith(self._text[start:end], place)
            return end >= start and there and go(place + end - start)

        return run

    def _first_end(self, part: Part, place: int) -> int | None:
        ends: list[int] = []

        def done(end: int) -> bool:
            ends.append(end)
            return True

        return ends[0] if part(place, done) else None

    def _atomic(self, part: Part) -> Part:
        def run(place: int, go: Go) -> bool:
            end = self._first_end(part, place)
            return end is not None and go(end)

        return run

    def _look(self, direction: int, nodes: Any, flags: int, *, wanted: bool) -> Part:
        part = self._sequence(nodes, flags)
        width = nodes.getwidth()[0] if direction < 0 else 0

        def run(place: int, go: Go) -> bool:
            there = place >= width and part(place - width, lambda end: direction > 0 or end == place)
            return there is wanted and go(place)

        return run

    # ----------------------------------------------------------------------------------------------------- repetition

    def _repeat(self, kind: str, least: int, most: Any, nodes: Any, flags: int) -> Part:
        part = self._sequence(nodes, flags)
        if kind == "POSSESSIVE_REPEAT":
            return self._possessive(part, least, int(most))
        if len(nodes) == 1 and str(nodes[0][0]) in ONE_CHAR:
            test = self._test(str(nodes[0][0]), nodes[0][1], flags)
            return self._of_one(test, least, int(most), greedy=kind == "MAX_REPEAT")
        return self._of_many(part, least, int(most), greedy=kind == "MAX_REPEAT")

    def _possessive(self, part: Part, least: int, most: int) -> Part:
        def run(place: int, go: Go) -> bool:
            count = 0
            while count < most:
                end = self._first_end(part, place)
                if end is None or (end == place and count >= least):
                    break
                place, count = end, count + 1
            return count >= least and go(place)

        return run

    def _of_one(self, test: Test, least: int, most: int, *, greedy: bool) -> Part:
        def run(place: int, go: Go) -> bool:
            last = place
            while last < len(self._text) and last - place < most and test(self._text[last]):
                last += 1
            self._tick(last - place + 1)
            ends = range(place + least, last + 1)
            for end in reversed(ends) if greedy else ends:
                self._tick()
                if go(end):
                    return True
            return False

        return run

    def _of_many(self, part: Part, least: int, most: int, *, greedy: bool) -> Part:
        def run(place: int, go: Go) -> bool:
            return once_more(0, place, go)

        def once_more(count: int, place: int, go: Go) -> bool:
            self._tick()

            def more() -> bool:
                return count < most and part(place, lambda end: further(end))

            def further(end: int) -> bool:
                return (end != place or count < least) and once_more(count + 1, end, go)

            if greedy:
                return more() or (count >= least and go(place))
            return (count >= least and go(place)) or more()

        return run

    # ------------------------------------------------------------------------------------------ places and characters

    def _at(self, where: str, flags: int) -> Part:
        many = bool(flags & re.MULTILINE)

        def is_word(place: int) -> bool:
            return 0 <= place < len(self._text) and self._category("CATEGORY_WORD", self._text[place], flags)

        tests: dict[str, Callable[[int], bool]] = {
            "AT_BEGINNING": lambda place: place == 0 or (many and self._text[place - 1] == "\n"),
            "AT_BEGINNING_STRING": lambda place: place == 0,
            "AT_END": lambda place: self._text[place:] in ("", "\n") or (many and self._text[place] == "\n"),
            "AT_END_STRING": lambda place: place == len(self._text),
            "AT_BOUNDARY": lambda place: is_word(place - 1) != is_word(place),
            "AT_NON_BOUNDARY": lambda place: is_word(place - 1) == is_word(place),
        }
        test = tests[where]

        def run(place: int, go: Go) -> bool:
            self._tick()
            return test(place) and go(place)

        return run

    def _test(self, kind: str, value: Any, flags: int) -> Test:
        @cache
        def test(char: str) -> bool:
            if not flags & re.IGNORECASE:
                return self._is(kind, value, char, flags)
            if kind == "NOT_LITERAL":
                return not any(self._is("LITERAL", value, case, flags) for case in cases(char))
            if kind == "IN" and str(value[0][0]) == "NEGATE":
                return not any(self._is("IN", value[1:], case, flags) for case in cases(char))
            return any(self._is(kind, value, case, flags) for case in cases(char))

        return test

    def _is(self, kind: str, value: Any, char: str, flags: int) -> bool:
        match kind:
            case "LITERAL":
                return bool(ord(char) == value)
            case "NOT_LITERAL":
                return bool(ord(char) != value)
            case "RANGE":
                return bool(value[0] <= ord(char) <= value[1])
            case "ANY":
                return bool(flags & re.DOTALL) or char != "\n"
            case "CATEGORY":
                return self._category(str(value), char, flags)
            case _:
                negated = str(value[0][0]) == "NEGATE"
                return negated != any(self._is(str(each), what, char, flags) for each, what in value[negated:])

    def _category(self, name: str, char: str, flags: int) -> bool:
        if "_NOT_" in name:
            return not self._category(name.replace("NOT_", ""), char, flags)
        if not flags & re.UNICODE and not char.isascii():
            return False
        match name:
            case "CATEGORY_SPACE":
                return char.isspace()
            case "CATEGORY_DIGIT":
                return char.isdecimal()
            case _:
                return char.isalnum() or char == "_"


def cases(char: str) -> set[str]:
    """The character and its other cases, where those are one character."""
    return {case for case in (char, char.lower(), char.upper(), char.lower().upper()) if len(case) == 1}
