"""Texts that a pattern might take long over, made from the pattern itself: each repeated part, repeated, and no end."""

import random
from collections.abc import Iterator
from typing import Any

from tests.regexes.steps import ONE_CHAR, parser

LARGE = 8  # a part that may repeat so often can be made to
SEEDS = 3
# One and the same, whatever the pattern is: letters, figures, blanks, marks, and how they alternate.
COMMON = (
    "a",
    "A",
    "0",
    " ",
    "\n",
    ".",
    "-",
    "_",
    "'",
    "é",
    "漢",
    "a ",
    "0,",
    "1.",
    "a.",
    "([{",
    "\\",
    "<a",
    "model ",
    "\u0301",
)
ENDS = ("", "\0")


def attacks(pattern: str | bytes, flags: int, size: int) -> Iterator[tuple[str, str]]:
    """Names of families, and the text of each that is about `size` characters long."""
    tree = parser.parse(pattern, flags)
    bodies = {("", one) for one in COMMON if not isinstance(pattern, bytes) or one.isascii()}
    for seed in range(SEEDS):
        chance = random.Random(seed)
        bodies.add(("", _sequence(tree, chance) or "a"))
        bodies |= set(_repeated(tree, chance))
    for before, body in sorted(bodies):
        for end in ENDS:
            yield f"{before!r} + {body!r} * n + {end!r}", f"{before}{body * (1 + size // len(body))}"[:size] + end


def _repeated(nodes: Any, chance: random.Random, before: str = "") -> Iterator[tuple[str, str]]:
    """The parts that may repeat often, alone and with what follows them; each with a text that leads to it."""
    texts = [_text(str(kind), value, chance) for kind, value in nodes]
    for index, (kind, value) in enumerate(nodes):
        here = before + "".join(texts[:index])
        if str(kind).endswith("REPEAT") and int(value[1]) >= LARGE:
            once = _sequence(value[2], chance) or "a"
            yield here, once
            yield here, once + _sequence(value[2], chance)
            yield here, once + "".join(texts[index + 1 : index + 2])
        for part in _inner(str(kind), value):
            yield from _repeated(part, chance, here)


def _inner(kind: str, value: Any) -> list[Any]:
    match kind:
        case "BRANCH":
            return list(value[1])
        case "SUBPATTERN":
            return [value[3]]
        case "ATOMIC_GROUP":
            return [value]
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return [value[2]]
        case "ASSERT" | "ASSERT_NOT":
            return [value[1]]
        case _:
            return []


def _sequence(nodes: Any, chance: random.Random) -> str:
    return "".join(_text(str(kind), value, chance) for kind, value in nodes)


def _text(kind: str, value: Any, chance: random.Random) -> str:
    """A text that a part matches, at least mostly."""
    match kind:
        case "BRANCH":
            return _sequence(chance.choice(value[1]), chance)
        case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
            return "".join(_sequence(value[2], chance) for _ in range(max(int(value[0]), min(1, int(value[1])))))
        case "SUBPATTERN" | "ATOMIC_GROUP":
            return _sequence(_inner(kind, value)[0], chance)
        case _:
            return _char(kind, value, chance) if kind in ONE_CHAR else ""


def _char(kind: str, value: Any, chance: random.Random) -> str:
    match kind:
        case "LITERAL":
            return chr(value)
        case "RANGE":
            return chr(chance.choice(value))
        case "CATEGORY":
            return {"SPACE": " ", "DIGIT": "1", "WORD": "a"}.get(str(value).removeprefix("CATEGORY_"), "!")
        case "IN" if str(value[0][0]) != "NEGATE":
            each, what = chance.choice(value)
            return _char(str(each), what, chance)
        case _:
            return chance.choice("xy1 ")
