"""Arithmetic as people write it in prose: tokens, and what an expression comes to. Nothing is evaluated as code."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Final

# A number with more digits is no quantity; computing with it would cost time for nothing.
MAX_DIGITS: Final = 15
MAX_EXPONENT: Final = 32.0
MAX_VALUE: Final = 1e24


class Kind(Enum):
    """What a token is. A STOP ends an expression: a full stop, a line, a date, a variable."""

    NUMBER = auto()
    OPERATOR = auto()
    OPEN = auto()
    CLOSE = auto()
    EQUALS = auto()
    WORD = auto()
    STOP = auto()


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a text, from `start` to `end`. Of a number, `decimals` are the places printed after the point."""

    kind: Kind
    text: str
    start: int
    end: int
    value: float = 0.0
    decimals: int = 0
    percent: bool = False
    currency: bool = False


# Every quantifier is bounded or over characters that what follows cannot match: time is linear in the text.
_TOKEN: Final = re.compile(
    r"""
    (?P<STOP>     \d{4}-\d\d-\d\d(?!\d) | \d{1,2}/\d{1,2}/\d{4}(?!\d) | \d{1,9}(?:\.\d{1,9}){2,4} | \d{1,2}:\d\d(?!\d)
                  | [.;!?:,](?=\s|$)
                  | \n(?![ \t]{0,8}=) )
  | (?P<NUMBER>   (?P<currency>[$€£¥]\ ?)?
                  (?: (?P<digits>\d{1,3}(?:,\d{3}){1,6}(?!\d)|\d+)(?P<places>\.\d+)? | \.\d+ )
                  (?P<power>[eE][-+]?\d{1,2}(?!\w))? )
  | (?P<EQUALS>   (?<![<>=!≤≥:+*/])=(?![=>]) )
  | (?P<OPERATOR> [-+−–*/×·÷⋅∙^%] )
  | (?P<OPEN>     [(\[{] )
  | (?P<CLOSE>    [)\]}] )
  | (?P<WORD>     [^\W\d_][\w'’]* | [^\s\w]|_ )
    """,
    re.VERBOSE,
)
_SIGNS: Final = {"−": "-", "–": "-", "×": "*", "·": "*", "⋅": "*", "∙": "*", "÷": "/"}
_SPOKEN: Final = {"x": "*", "X": "*", "times": "*", "plus": "+", "minus": "-", "of": "*"}
_REWRITTEN: Final = (
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|\\\*"), " * "),
    (re.compile(r"\\div(?![a-zA-Z])|\bdivided by\b"), " / "),
    (re.compile(r"\\[dt]?frac ?\{([^{}]{1,40})\} ?\{([^{}]{1,40})\}"), r" ((\1)/(\2)) "),
    (re.compile(r"\\(?:text|mathrm|boxed) ?\{([^{}]{1,40})\}"), r" \1 "),
    (re.compile(r"\\(?:left|right|approx|[,;!\[\]()])"), " "),
    (re.compile(r"\\([$%])"), r"\1"),
    (re.compile(r"(?<=\d) ?\*\* ?(?=\d)"), "^"),
    (re.compile(r"\*\*|__|`"), " "),
    (re.compile(r"(?<=\d)[xX](?=\d)"), " * "),
)
_FRACTIONS: Final = {"½": " 1/2", "⅓": " 1/3", "⅔": " 2/3", "¼": " 1/4", "¾": " 3/4", "⅕": " 1/5", "⅛": " 1/8"}
_PRECEDENCE: Final = {"(": 0, "+": 1, "-": 1, "*": 2, "/": 2, "~": 3, "^": 4}


def tokens(text: str) -> list[Token]:
    """The tokens of a text, the units of numbers still among them."""
    for pattern, new in _REWRITTEN:
        text = pattern.sub(new, text)
    for sign, fraction in _FRACTIONS.items():
        text = text.replace(sign, fraction)
    found: list[Token] = []
    for match in _TOKEN.finditer(text):
        _append(found, match)
    return _joined(_without_unit_marks(_with_spoken_operators(found)))


def _append(found: list[Token], match: re.Match[str]) -> None:
    kind, text = Kind[match.lastgroup or "WORD"], match.group()
    if kind is Kind.NUMBER:
        found.append(_number(match, text))
    elif text == "%":
        if found and found[-1].kind is Kind.NUMBER and found[-1].end >= match.start() - 1:
            last = found[-1]
            found[-1] = replace(
                last, value=last.value / 100.0, decimals=last.decimals + 2, percent=True, end=match.end()
            )
    elif kind is Kind.WORD and text in "$€£¥~≈":
        return
    elif kind is Kind.WORD and len(text) == 1 and text.isalpha() and _is_glued(found, Kind.NUMBER, match.start()):
        found[-1] = Token(Kind.STOP, text, found[-1].start, match.end())  # 3y is a variable
    else:
        found.append(Token(kind, _SIGNS.get(text, text), match.start(), match.end()))


def _is_glued(found: Sequence[Token], kind: Kind, start: int) -> bool:
    return bool(found) and found[-1].kind is kind and found[-1].end == start


def _number(match: re.Match[str], text: str) -> Token:
    whole, places, power = match["digits"], match["places"], match["power"] or ""
    digits = text.lstrip("$€£¥ ").removesuffix(power) if whole is None else whole.replace(",", "") + (places or "")
    value = float(digits + power) if len(digits) <= MAX_DIGITS + 1 else MAX_VALUE
    if value >= MAX_VALUE:
        return Token(Kind.STOP, "", match.start(), match.end())
    decimals = max(0, len(digits.partition(".")[2]) - int(power[1:] or 0))
    currency = match["currency"] is not None
    return Token(Kind.NUMBER, digits + power, match.start(), match.end(), value, decimals, currency=currency)


def _with_spoken_operators(row: list[Token]) -> list[Token]:
    """ "3 times 4", "5 x 2" and "20% of 50" are products; "2 of the 4" and "x" alone are not."""
    for index, token in enumerate(row[1:-1], 1):
        if token.kind is Kind.WORD and token.text in _SPOKEN and row[index + 1].kind in (Kind.NUMBER, Kind.OPEN):
            before = next((t for t in reversed(row[max(0, index - 4) : index]) if t.kind is not Kind.WORD), token)
            if before.kind in (Kind.NUMBER, Kind.CLOSE) and (token.text != "of" or _is_share(row, index)):
                row[index] = replace(token, kind=Kind.OPERATOR, text=_SPOKEN[token.text])
    return row


def _is_share(row: Sequence[Token], index: int) -> bool:
    """Whether the number just before `index` is a percentage or a fraction."""
    if row[index - 1].kind is not Kind.NUMBER:
        return False
    return row[index - 1].percent or (index >= 3 and row[index - 2].text == "/" and row[index - 3].kind is Kind.NUMBER)


def _without_unit_marks(row: Sequence[Token]) -> list[Token]:
    """Without the slash of "miles/hour" and the dash of "8-hour", and without brackets that hold words alone."""
    kept: list[Token] = []
    index = 0
    while index < len(row):
        token = row[index]
        follower = row[index + 1].kind if index + 1 < len(row) else Kind.STOP
        if token.kind is Kind.OPERATOR and follower is Kind.WORD and token.text in "/-" and not _is_letter(row, index):
            kept.append(replace(token, kind=Kind.WORD))
        elif token.kind is Kind.OPEN and (close := _close_of_words(row, index)):
            index = close
        else:
            kept.append(token)
        index += 1
    return kept


def _is_letter(row: Sequence[Token], index: int) -> bool:
    """Whether an operator stands before a variable: a letter of its own, which is not the article."""
    text = row[index + 1].text
    return len(text) == 1 and text.isalpha() and text != "a"


def _close_of_words(row: Sequence[Token], index: int) -> int:
    for ahead in range(index + 1, min(len(row), index + 8)):
        if row[ahead].kind is Kind.CLOSE:
            return ahead
        if row[ahead].kind is not Kind.WORD:
            return 0
    return 0


def _joined(row: Sequence[Token]) -> list[Token]:
    """With mixed numbers ("1 1/2") as one number, and the product of "2(3 + 4)" written out."""
    made: list[Token] = []
    index = 0
    while index < len(row):
        token, last = row[index], made[-1] if made else None
        if token.kind is Kind.NUMBER and last and last.kind is Kind.NUMBER and _is_fraction(row, index):
            share = token.value / row[index + 2].value
            made[-1] = replace(last, value=last.value + share, decimals=last.decimals + 2, end=row[index + 2].end)
            index += 3
            continue
        if token.kind is Kind.OPEN and last and last.kind in (Kind.NUMBER, Kind.CLOSE) and last.end == token.start:
            made.append(Token(Kind.OPERATOR, "*", token.start, token.start))
        made.append(token)
        index += 1
    return made


def _is_fraction(row: Sequence[Token], index: int) -> bool:
    if index + 2 >= len(row) or row[index + 1].text != "/" or row[index + 2].kind is not Kind.NUMBER:
        return False
    return 0 < row[index].value < row[index + 2].value and row[index].end == row[index + 1].start


@dataclass(frozen=True, slots=True)
class Value:
    """What an expression comes to, and what it was made of; the sign of a number is no operator."""

    number: float
    operands: tuple[Token, ...]
    operators: tuple[str, ...]

    @property
    def is_plain(self) -> bool:
        """Whether it is a number alone."""
        return not self.operators

    @property
    def has_percent(self) -> bool:
        """Whether a percentage stands in it."""
        return any(token.percent for token in self.operands)


def evaluate(expression: Sequence[Token]) -> Value | None:
    """The value of numbers, operators and brackets; None where there is none."""
    values: list[float] = []
    waiting: list[str] = []
    operators: list[str] = []
    after_operand = False
    try:
        for token in expression:
            if token.kind is Kind.NUMBER:
                values.append(token.value)
            elif token.kind is Kind.CLOSE:
                _apply_until_open(values, waiting)
            elif token.kind is Kind.OPEN:
                waiting.append("(")
            elif after_operand:
                operators.append(token.text)
                _push(values, waiting, token.text)
            else:
                _push(values, waiting, {"-": "~"}[token.text])
            after_operand = token.kind in (Kind.NUMBER, Kind.CLOSE)
        while waiting:
            _apply(values, waiting.pop())
    except (IndexError, KeyError, ArithmeticError):
        return None
    if len(values) != 1 or not abs(values[0]) <= MAX_VALUE:
        return None
    operands = tuple(token for token in expression if token.kind is Kind.NUMBER)
    return Value(values[0], operands, tuple(operators))


def _push(values: list[float], waiting: list[str], operator: str) -> None:
    while waiting and operator not in "~^" and _PRECEDENCE[waiting[-1]] >= _PRECEDENCE[operator]:
        _apply(values, waiting.pop())
    waiting.append(operator)


def _apply_until_open(values: list[float], waiting: list[str]) -> None:
    while (operator := waiting.pop()) != "(":
        _apply(values, operator)


def _apply(values: list[float], operator: str) -> None:
    right = values.pop()
    if operator == "~":
        values.append(-right)
        return
    values.append(_OPERATIONS[operator](values.pop(), right))


def _power(base: float, exponent: float) -> float:
    if abs(exponent) > MAX_EXPONENT or (base < 0.0 and not exponent.is_integer()):
        raise ArithmeticError
    return float(base**exponent)


_OPERATIONS: Final = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": lambda left, right: left / right,
    "^": _power,
}
