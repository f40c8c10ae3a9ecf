"""How an answer to a problem with numbers was worked out: which numbers it uses, and whether they hang together."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from farthing_classifier.domain.judging.arithmetic import Kind, Token, tokens
from farthing_classifier.domain.judging.equations import Equation, Equations, Truth
from farthing_classifier.domain.judging.final_answer import FinalAnswer

# Of longer texts the end is read: the question, and the result.
MAX_CHARS: Final = 8_192
# Equations beyond these are not followed from one to the next: that takes time with the square of their number.
MAX_STEPS: Final = 48
MAX_GIVEN: Final = 96
CLIP: Final = 8.0

# Numbers that a problem gives in words ("twice", "a dozen", "per week").
_SPOKEN: Final = {
    word: float(number)
    for number, words in (
        (1, "one daily"), (2, "two half twice double doubled pair both"),
        (3, "three third thirds triple tripled thrice yard"),
        (4, "four quarter fourth fourths"), (5, "five fifth fifths"), (6, "six"), (7, "seven week weeks weekly"),
        (8, "eight"), (9, "nine"), (10, "ten"), (11, "eleven"), (12, "twelve dozen year feet foot"), (20, "twenty"),
        (24, "day"), (30, "thirty month"), (60, "hour hours minutes"), (100, "hundred percent"),
    )
    for word in words.split()
}  # fmt: skip
# Numbers that need no explanation.
_COMMON: Final = (1.0, 2.0, 7.0, 10.0, 12.0, 24.0, 30.0, 52.0, 60.0, 100.0, 365.0, 1000.0, 0.5)
_COMPARING: Final = re.compile(r"\b(?:more|less|fewer|than|times|twice|older|younger)\b", re.IGNORECASE)
_SHARING: Final = re.compile(r"\b(?:each|every|per)\b", re.IGNORECASE)
_DOUBTING: Final = re.compile(
    r"\b(?:however|but|actually|assum\w{1,12}|impossible|not (?:possible|given|specified|mentioned|provided)"
    r"|doesn['’]t make sense|cannot|can['’]t|mistake|negative|unknown)\b",
    re.IGNORECASE,
)
_GIVING_REASONS: Final = re.compile(r"\b(?:since|because)\b", re.IGNORECASE)
_UNKNOWN: Final = re.compile(r"\b[A-Zxyz] ?[=+*]")
# Where a fraction is as good a result as a whole number: the problem gives one, its question asks for one, or it is
# bare arithmetic without a story.
_GIVES_FRACTION: Final = re.compile(r"\d\.\d{0,6}[1-9]")
_ASKS_FRACTION: Final = re.compile(r"decimal|fraction|ratio|nearest|round|probab|average|percent", re.IGNORECASE)
_STORY_CHARS: Final = 80
_QUESTION_CHARS: Final = 160
_SENTENCE: Final = re.compile(r"[.!?](?=\s|$)")
_WORD: Final = re.compile(r"[^\W\d_]+")

_COUNTS: Final = (
    "equations", "wrong_written", "wrong_annotated", "rounded", "odd_annotations", "cut_annotation",
    "other_last_number", "result_is_last", "result_is_computed", "result_is_given", "result_is_fraction",
    "result_is_zero", "result_is_negative",
    "fractions", "negatives", "unexplained", "common", "unused", "unused_share", "dangling", "reused",
    "equations_per_given", "operators", "products", "magnitude",
    "problem_chars", "given", "distinct_given", "spoken", "percent", "comparing", "sharing", "sentences",
    "relative_chars", "doubting", "giving_reasons", "unknowns", "words_taken_up",
)  # fmt: skip
# Each as ± log(1 + |n|), then each as whether there is any.
NAMES: Final[tuple[str, ...]] = (*_COUNTS, *(f"any_{name}" for name in _COUNTS))


@dataclass(frozen=True, slots=True)
class Problem:
    """The numbers and words of a problem. Of a percentage, `given` holds its figure: 20 for 20%."""

    text: str
    given: tuple[float, ...]
    percentages: frozenset[float]
    spoken: tuple[float, ...]
    words: frozenset[str]
    speaks_of_percent: bool
    wants_whole: bool

    @classmethod
    def read(cls, text: str) -> Problem:
        """A problem from its text."""
        text = text[-MAX_CHARS:]
        row = tokens(text)
        numbers = [token for token in row if token.kind is Kind.NUMBER][-MAX_GIVEN:]
        words = [token.text.lower() for token in row if token.kind is Kind.WORD]
        return cls(
            text=text,
            given=tuple(map(_figure, numbers)),
            percentages=frozenset(_figure(token) for token in numbers if token.percent),
            spoken=tuple(_SPOKEN[word] for word in words if word in _SPOKEN)[-MAX_GIVEN:],
            words=_words(text),
            speaks_of_percent=any(token.percent for token in numbers) or "percent" in words,
            wants_whole=_wants_whole(text),
        )

    def is_meant(self, given: float, operand: float) -> bool:
        """Whether an operand stands for a given number: 20% may come as 20, as 0.2, or as the 0.8 that are left."""
        if _near(given, operand):
            return True
        share = given / 100.0
        meanings = (share, 1.0 - share, 1.0 + share, 100.0 - given, 100.0 + given)
        return given in self.percentages and _is_among(operand, meanings)


def _wants_whole(text: str) -> bool:
    if len(text) < _STORY_CHARS or _GIVES_FRACTION.search(text):
        return False
    question = text.rstrip()[-_QUESTION_CHARS:]
    return not _ASKS_FRACTION.search(_SENTENCE.split(question.rstrip(".!?"))[-1])


@dataclass(slots=True)
class _Steps:
    """What the equations of an answer use and leave, one after the other."""

    final: float
    results: list[float]
    used: set[float]
    unexplained: int = 0
    common: int = 0
    reused: int = 0
    operators: int = 0
    products: int = 0
    dangling: int = 0

    @classmethod
    def follow(cls, problem: Problem, equations: Sequence[Equation], final: FinalAnswer) -> _Steps:
        equations = equations[-MAX_STEPS:]
        steps = cls(final.number or 0.0, [], set())
        for equation in equations:
            for operand in equation.expression.operands[:MAX_STEPS]:
                steps._explain(problem, _figure(operand) if operand.percent else operand.value)
            steps.operators += len(equation.expression.operators)
            steps.products += equation.expression.operators.count("*")
            steps.results.append(equation.result)
        steps.dangling = _dangling(equations, final)
        return steps

    def _explain(self, problem: Problem, operand: float) -> None:
        """Where an operand comes from: an earlier result, the problem, common knowledge, or nowhere."""
        meant = {given for given in problem.given if problem.is_meant(given, operand)}
        self.used |= meant
        if _is_among(operand, self.results):
            self.reused += 1
        elif not meant and not _is_among(operand, problem.spoken):
            known = _is_among(operand, _COMMON) or any(_is_among(operand, (n - 1.0, n + 1.0)) for n in problem.given)
            self.common += known
            self.unexplained += not known


def _dangling(equations: Sequence[Equation], final: FinalAnswer) -> int:
    """How many results but the last are neither used later nor the final answer."""
    later = [] if final.number is None else [final.number]
    count = 0
    for number, equation in enumerate(reversed(equations)):
        count += number > 0 and not _is_among(equation.result, later)
        later += [operand.value for operand in equation.expression.operands[:MAX_STEPS]]
    return count


def features(problem: Problem, answer: str, equations: Equations, final: FinalAnswer) -> tuple[float, ...]:
    """One number for each of NAMES."""
    steps = _Steps.follow(problem, equations.written or equations.annotated, final)
    answer = answer[-MAX_CHARS:]
    values = (
        *_of_equations(equations),
        *_of_result(problem, steps, final),
        *_of_steps(problem, steps),
        *_of_problem(problem),
        *_of_answer(problem, answer),
    )
    return (*map(_squeezed, values), *(float(value > 0.0) for value in values))


def _squeezed(value: float) -> float:
    return max(-CLIP, min(CLIP, math.copysign(math.log1p(abs(value)), value)))


def _of_equations(equations: Equations) -> tuple[float, ...]:
    return (
        len(equations.written),
        _wrong(equations.written),
        _wrong(equations.annotated),
        equations.count(Truth.ROUNDED),
        equations.odd_annotations,
        float(equations.cut_annotation),
    )


def _wrong(found: Sequence[Equation]) -> int:
    return sum(equation.truth is Truth.WRONG for equation in found)


def _of_result(problem: Problem, steps: _Steps, final: FinalAnswer) -> tuple[float, ...]:
    number = final.number
    if number is None:
        return (0.0,) * 7
    return (
        float(final.last_number is not None and not _near(number, final.last_number)),
        float(bool(steps.results) and _near(number, steps.results[-1])),
        float(_is_among(number, steps.results)),
        float(_is_among(number, problem.given)),
        float(problem.wants_whole and not _near(number, round(number))),
        float(number == 0.0),
        float(number < 0.0),
    )


def _of_steps(problem: Problem, steps: _Steps) -> tuple[float, ...]:
    unused = len(set(problem.given) - steps.used)
    count = max(1, len(steps.results))
    return (
        sum(not _near(result, round(result)) for result in steps.results),
        sum(result < 0.0 for result in steps.results),
        steps.unexplained,
        steps.common,
        unused,
        unused / max(1, len(set(problem.given))),
        steps.dangling,
        steps.reused / count,
        len(steps.results) / max(1, len(problem.given)),
        steps.operators / count,
        steps.products,
        math.log1p(abs(steps.final)) - math.log1p(max(map(abs, problem.given), default=0.0)),
    )


def _of_problem(problem: Problem) -> tuple[float, ...]:
    return (
        math.log1p(len(problem.text)),
        len(problem.given),
        len(set(problem.given)),
        len(problem.spoken),
        float(problem.speaks_of_percent),
        len(_COMPARING.findall(problem.text)),
        len(_SHARING.findall(problem.text)),
        len(_SENTENCE.findall(problem.text)),
    )


def _of_answer(problem: Problem, answer: str) -> tuple[float, ...]:
    return (
        math.log1p(len(answer)) - math.log1p(len(problem.text)),
        len(_DOUBTING.findall(answer)),
        len(_GIVING_REASONS.findall(answer)),
        len(_UNKNOWN.findall(answer)),
        len(problem.words & _words(answer)) / max(1, len(problem.words)),
    )


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _figure(token: Token) -> float:
    return round(token.value * 100.0, 9) if token.percent else token.value


def _near(left: float, right: float) -> bool:
    return abs(left - right) <= 1e-6 * max(1.0, abs(left), abs(right))


def _is_among(number: float, numbers: Iterable[float]) -> bool:
    return any(_near(number, other) for other in numbers)
