"""The equations of an answer, computed again: "3 boxes * $4 = $12", "<<3*4=12>>", chains, percentages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from itertools import islice, pairwise
from typing import Final

from farthing_classifier.domain.judging.arithmetic import Kind, Token, Value, evaluate, tokens

# Of a longer answer the end is read, where the result stands.
MAX_CHARS: Final = 32_768
MAX_EQUATIONS: Final = 256
# A longer expression is left alone: neither right nor wrong.
MAX_EXPRESSION: Final = 64
# So many words may be a number's unit ("3 large bags of apples × 4"), or stand before a result ("= a total of 12").
MAX_UNIT_WORDS: Final = 6
MAX_LEADING_WORDS: Final = 3

_ANNOTATION: Final = re.compile(r"<<([^<>\n]{1,200})>>")
_CUT_ANNOTATION: Final = re.compile(r"<<[^<>]{0,200}\Z")
# Units that are counted in one another: "2 hours - 30 minutes = 90 minutes" is right, and says so nowhere.
_FAMILIES: Final = (
    frozenset("second seconds sec secs minute minutes min mins hour hours hr hrs day days week weeks".split()
              + "month months year years decade decades".split()),
    frozenset("inch inches foot feet ft yard yards mile miles mm cm m km centimeters meters kilometers".split()),
    frozenset("ounce ounces oz pound pounds lb lbs ton tons gram grams g kg kilograms".split()),
    frozenset("cup cups pint pints quart quarts gallon gallons ml liter liters".split()),
    frozenset("cent cents dollar dollars dime dimes quarter quarters nickel nickels penny pennies".split()),
    frozenset("dozen dozens piece pieces egg eggs pair pairs".split()),
)  # fmt: skip


class Truth(Enum):
    """What comes of computing an equation again."""

    HOLDS = auto()
    ROUNDED = auto()
    WRONG = auto()


@dataclass(frozen=True, slots=True)
class Equation:
    """An expression, what the answer says that it comes to, and whether it does."""

    left: Value
    right: Value
    truth: Truth

    @property
    def expression(self) -> Value:
        """The side that was computed."""
        return self.right if self.left.is_plain else self.left

    @property
    def result(self) -> float:
        """What the answer takes for the result."""
        return self.left.number if self.left.is_plain else self.right.number


@dataclass(frozen=True, slots=True)
class Equations:
    """All equations of an answer, in order.

    `annotated` are those of "<<…>>", `odd_annotations` counts where the text goes on with another number than the
    annotation came to, and `cut_annotation` is set where the answer ends within one.
    """

    written: tuple[Equation, ...]
    annotated: tuple[Equation, ...]
    odd_annotations: int
    cut_annotation: bool

    @property
    def all(self) -> tuple[Equation, ...]:
        """Both kinds."""
        return self.written + self.annotated

    def count(self, truth: Truth) -> int:
        """How many of them came out so."""
        return sum(equation.truth is truth for equation in self.all)


def find(answer: str) -> Equations:
    """Every equation of an answer that can be computed; those with variables are not among them."""
    text = answer[-MAX_CHARS:]
    annotated: list[Equation] = []
    odd = 0
    for match in islice(_ANNOTATION.finditer(text), MAX_EQUATIONS):
        inside = _of_line(tokens(match[1]))
        annotated += inside
        odd += bool(inside) and _continues_otherwise(inside[-1], text[match.end() : match.end() + 24])
    cut = bool(_CUT_ANNOTATION.search(text[-256:]))
    plain = _CUT_ANNOTATION.sub("", _ANNOTATION.sub("", text)) if "<<" in text else text
    written = _of_line(tokens(plain))
    return Equations(tuple(written[:MAX_EQUATIONS]), tuple(annotated), odd, cut)


def _continues_otherwise(equation: Equation, after: str) -> bool:
    following = tokens(after)[:1]
    if not following or following[0].kind is not Kind.NUMBER:
        return False
    return _truth(equation.right, Value(following[0].value, (following[0],), ()), frozenset()) is Truth.WRONG


def _of_line(row: Sequence[Token]) -> list[Equation]:
    signs = [index for index, token in enumerate(row) if token.kind is Kind.EQUALS][:MAX_EQUATIONS]
    bounds = [-1, *signs, len(row)]
    found = []
    for (begin, at), (_, end) in pairwise(pairwise(bounds)):
        left = _ending(row[max(begin + 1, at - MAX_EXPRESSION) : at])
        right = _beginning(row[at + 1 : min(end, at + 1 + MAX_EXPRESSION)])
        if left and right and not (left[0].is_plain and right[0].is_plain):
            found.append(Equation(left[0], right[0], _truth(left[0], right[0], left[1] | right[1])))
    return found


# Rows of tokens as rows of letters: so the shape of an expression with units can be said as a pattern.
_LETTERS: Final = {
    Kind.NUMBER: "N", Kind.OPERATOR: "O", Kind.OPEN: "(", Kind.CLOSE: ")", Kind.EQUALS: "=", Kind.WORD: "W",
    Kind.STOP: "S",
}  # fmt: skip
_UNIT: Final = f"W{{0,{MAX_UNIT_WORDS}}}"
_OPERAND: Final = rf"\(*+(?:O(?=N))?N{_UNIT}(?:\){_UNIT})*"
_EXPRESSION: Final = rf"{_OPERAND}(?:O{_OPERAND})*"
_WHOLE: Final = re.compile(rf"(?<!\(){_EXPRESSION}")
_BEGINNING: Final = re.compile(rf"W{{0,{MAX_LEADING_WORDS}}}(?P<expression>{_EXPRESSION})")


def _ending(row: Sequence[Token]) -> tuple[Value, frozenset[str]] | None:
    letters = "".join(_LETTERS[token.kind] for token in row)
    match = None
    for match in _WHOLE.finditer(letters):  # noqa: B007
        pass
    if match is None or match.end() < len(letters):
        return None
    start = match.start()
    if letters[start] == "O" and not _is_sign(row, start):
        start += 1  # the dash of a list
    elif letters[start] == "O" and start and letters[start - 1] == "W" and len(row[start - 1].text) == 1:
        return None  # a variable, less a number
    if letters.count(")", start) > letters.count("(", start):
        return None  # what stands before it in the bracket cannot be computed
    value = _value(row[start:])
    before = letters[start - 1] if start else "S"
    incomplete = before == "O" and start > 1 and letters[start - 2] not in "S"
    labelled = before == "W" and value is not None and value.is_plain
    return None if value is None or incomplete or labelled else (value, _units(row[start:]))


def _beginning(row: Sequence[Token]) -> tuple[Value, frozenset[str]] | None:
    letters = "".join(_LETTERS[token.kind] for token in row)
    match = _BEGINNING.match(letters)
    if match is None or letters[match.end() : match.end() + 2] in ("OW", "O(", "OS"):
        return None
    part = row[match.start("expression") : match.end()]
    value = _value(part)
    return None if value is None else (value, _units(part))


def _is_sign(row: Sequence[Token], index: int) -> bool:
    """Whether an operator is the minus of a negative number: "-3", not "- 3"."""
    return row[index].text == "-" and row[index].end == row[index + 1].start


def _value(row: Sequence[Token]) -> Value | None:
    return evaluate(_balanced([token for token in row if token.kind is not Kind.WORD]))


def _balanced(row: Sequence[Token]) -> list[Token]:
    """Without brackets that began or end outside."""
    extra = sum(token.kind is Kind.OPEN for token in row) - sum(token.kind is Kind.CLOSE for token in row)
    begin, end = 0, len(row)
    while extra > 0 and row[begin].kind is Kind.OPEN:
        begin, extra = begin + 1, extra - 1
    while extra < 0 and row[end - 1].kind is Kind.CLOSE:
        end, extra = end - 1, extra + 1
    return list(row[begin:end])


def _units(row: Sequence[Token]) -> frozenset[str]:
    return frozenset(token.text.lower() for token in row if token.kind is Kind.WORD)


def _truth(left: Value, right: Value, units: frozenset[str]) -> Truth:
    """Whether both sides are the same, to the places that are printed. Percentages may be meant in several ways."""
    meant = _meanings(left, right)
    if any(
        abs(a - b) <= _unit_in_last_place(right if right.is_plain else left) * 0.51 + 1e-9 * abs(a) for a, b in meant
    ):
        return Truth.HOLDS if _is_exact(meant) else Truth.ROUNDED
    if any(abs(a - b) < 1.0 and (b.is_integer() or a.is_integer()) and abs(b) >= 1.0 for a, b in meant):
        return Truth.ROUNDED
    if any(abs(a - b) <= 0.01 * abs(a) and not b.is_integer() for a, b in meant):
        return Truth.ROUNDED
    if any(len(units & family) > 1 for family in _FAMILIES):
        return Truth.ROUNDED
    return Truth.WRONG


def _is_exact(meant: Sequence[tuple[float, float]]) -> bool:
    return any(abs(a - b) <= 1e-6 * max(1.0, abs(a)) for a, b in meant)


def _unit_in_last_place(value: Value) -> float:
    return float(10.0 ** -(value.operands[0].decimals if value.is_plain else 6))


def _meanings(left: Value, right: Value) -> list[tuple[float, float]]:
    pairs = [(left.number, right.number)]
    if left.has_percent or right.has_percent:
        pairs += [(left.number * 100.0, right.number), (left.number, right.number * 100.0)]
        pairs += [(part, right.number) for part in _relative(left)]
    return pairs


def _relative(value: Value) -> list[float]:
    """ "80 + 25%" as it is said: a quarter more."""
    if len(value.operators) == 1 and value.operators[0] in "+-" and value.operands[-1].percent:
        sign = 1.0 if value.operators[0] == "+" else -1.0
        return [value.operands[0].value * (1.0 + sign * value.operands[1].value)]
    return []
