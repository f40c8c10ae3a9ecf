"""An answer looked at from all sides: what was found, and what the judge's model reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final

from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.judging import agreement, asked, code, equations, final_answer, word_problems, wording
from farthing_classifier.domain.judging.agreement import Agreement
from farthing_classifier.domain.judging.asked import Asked
from farthing_classifier.domain.judging.equations import Equations, Truth
from farthing_classifier.domain.judging.final_answer import FinalAnswer

# Tokens as improbable as this on average are a finding; what is beyond the first limit counts, up to the last.
IMPROBABLE_LOGPROB: Final = -1.5
SURPRISE_FROM: Final = -1.0
SURPRISE_MOST: Final = 2.0
MAX_JSON_CHARS: Final = 262_144


class Finish(Enum):
    """Why an answer ended; the words of farthing.type.v1.FinishReason."""

    UNSPECIFIED = "unspecified"
    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    BUDGET = "budget"


_CUT: Final = (Finish.LENGTH, Finish.CANCELLED, Finish.BUDGET)


class Finding(Enum):
    """Something found in an answer; the words of farthing.classifier.v1.AnswerFinding."""

    WRONG_ARITHMETIC = "wrong_arithmetic"
    ARITHMETIC_HOLDS = "arithmetic_holds"
    CODE_DOES_NOT_PARSE = "code_does_not_parse"
    CODE_PARSES = "code_parses"
    INVALID_JSON = "invalid_json"
    VALID_JSON = "valid_json"
    REFUSAL = "refusal"
    HEDGING = "hedging"
    EMPTY = "empty"
    CUT_OFF = "cut_off"
    TOO_SHORT = "too_short"
    REPETITIVE = "repetitive"
    IMPROBABLE_TOKENS = "improbable_tokens"
    NO_FINAL_ANSWER = "no_final_answer"
    AGREES = "agrees"
    DISAGREES = "disagrees"


# What counts as evidence, in the order in which the model reads it; `surprise` is a number, the others 0 or 1.
SURPRISE: Final = "surprise"
_COUNTING: Final = tuple(
    finding for finding in Finding if finding not in (Finding.IMPROBABLE_TOKENS, Finding.AGREES, Finding.DISAGREES)
)
EVIDENCE: Final[tuple[str, ...]] = (*(finding.value for finding in _COUNTING), SURPRISE)
# In answers to problems with numbers the model weighs these itself, with what goes with them.
_WEIGHED_WITH_NUMBERS: Final = frozenset((Finding.ARITHMETIC_HOLDS, Finding.HEDGING))


@dataclass(frozen=True, slots=True)
class Candidate:
    """An answer and what it answers. `frame` is what the system messages say; an empty `reference` is none."""

    prompt: str
    answer: str
    frame: str = ""
    finish: Finish = Finish.UNSPECIFIED
    task: Task = Task.UNSPECIFIED
    prior_success: float | None = None
    mean_token_logprob: float | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True)
class Examination:
    """`numbers` are the features of `word_problems.NAMES`, where the answer is one to a problem with numbers."""

    findings: tuple[Finding, ...]
    numbers: tuple[float, ...] | None
    surprise: float
    agreement: Agreement | None

    @property
    def evidence(self) -> tuple[float, ...]:
        """One number for each of EVIDENCE."""
        left_out = _WEIGHED_WITH_NUMBERS if self.numbers is not None else frozenset()
        counted = (float(finding in self.findings and finding not in left_out) for finding in _COUNTING)
        return (*counted, self.surprise)


def examine(candidate: Candidate) -> Examination:
    """Everything about an answer that can be seen without a language model."""
    wanted = asked.read(candidate.prompt, candidate.frame, candidate.task)
    compared = agreement.compare(candidate.answer, candidate.reference, wanted) if candidate.reference.strip() else None
    surprise = _surprise(candidate.mean_token_logprob)
    if not candidate.answer.strip():
        return Examination((Finding.EMPTY, *_of_comparison(compared)), None, surprise, compared)
    prose = code.without_blocks(candidate.answer) if "```" in candidate.answer or "~~~" in candidate.answer else ""
    computed = equations.find(prose or candidate.answer)
    final = final_answer.find(candidate.answer)
    findings = (
        *_of_arithmetic(computed),
        *_of_code(candidate.answer),
        *_of_json(candidate.answer, wanted),
        *_of_wording(candidate, wanted),
        *_of_end(candidate, computed),
        *_of_tokens(candidate),
        *_of_final(wanted, final),
        *_of_comparison(compared),
    )
    return Examination(findings, _numbers(candidate, wanted, computed, final), surprise, compared)


def _numbers(candidate: Candidate, wanted: Asked, computed: Equations, final: FinalAnswer) -> tuple[float, ...] | None:
    worked_out = candidate.task is Task.MATHS and bool(computed.all) and not (wanted.options or wanted.json)
    if not worked_out and (final.number is None or not wanted.number):
        return None
    problem = word_problems.Problem.read(candidate.prompt)
    return word_problems.features(problem, candidate.answer.strip(), computed, final)


def _surprise(mean_logprob: float | None) -> float:
    if mean_logprob is None or not mean_logprob <= SURPRISE_FROM:
        return 0.0
    return min(SURPRISE_MOST, SURPRISE_FROM - mean_logprob)


def _of_arithmetic(computed: Equations) -> Iterator[Finding]:
    if computed.count(Truth.WRONG):
        yield Finding.WRONG_ARITHMETIC
    elif computed.all:
        yield Finding.ARITHMETIC_HOLDS


def _of_code(answer: str) -> Iterator[Finding]:
    parses = code.parses(code.blocks(answer))
    if parses is not None:
        yield Finding.CODE_PARSES if parses else Finding.CODE_DOES_NOT_PARSE


def _of_json(answer: str, wanted: Asked) -> Iterator[Finding]:
    if wanted.json:
        yield Finding.VALID_JSON if _is_json(answer, alone=wanted.json_alone) else Finding.INVALID_JSON


def _is_json(answer: str, *, alone: bool) -> bool:
    """As the whole answer or in one fenced block; between sentences too, unless nothing else was wanted."""
    text = answer.strip()
    blocks = code.blocks(text)
    if text.startswith(("```", "~~~")) and len(blocks) == 1:
        return blocks[0].closed and code.json_parses(blocks[0].text)
    if code.json_parses(text):
        return True
    if alone:
        return False
    if blocks:
        return any(block.closed and code.json_parses(block.text) for block in blocks)
    return any(
        begin in text and code.json_parses(text[text.index(begin) : text.rindex(end) + 1])
        for begin, end in ("{}", "[]")
        if end in text
    )


def _of_wording(candidate: Candidate, wanted: Asked) -> Iterator[Finding]:
    answer = candidate.answer
    if wording.is_refusal(answer):
        yield Finding.REFUSAL
    if wording.is_hedging(answer):
        yield Finding.HEDGING
    if len(answer.split(maxsplit=int(wanted.least_words) + 1)) < wanted.least_words and not _is_unspaced(answer):
        yield Finding.TOO_SHORT
    if not wanted.repetition and wording.is_repetitive(answer):
        yield Finding.REPETITIVE


def _is_unspaced(answer: str) -> bool:
    """Whether it is in a script that puts no spaces between words: there words cannot be counted so."""
    return sum(character > "\u2e7f" for character in answer[:512]) * 4 > min(len(answer), 512)


def _of_end(candidate: Candidate, computed: Equations) -> Iterator[Finding]:
    open_block = any(not block.closed for block in code.blocks(candidate.answer))
    if candidate.finish in _CUT or computed.cut_annotation or open_block:
        yield Finding.CUT_OFF


def _of_tokens(candidate: Candidate) -> Iterator[Finding]:
    if candidate.mean_token_logprob is not None and candidate.mean_token_logprob <= IMPROBABLE_LOGPROB:
        yield Finding.IMPROBABLE_TOKENS


def _of_final(wanted: Asked, final: FinalAnswer) -> Iterator[Finding]:
    if (wanted.number and final.number is None) or (wanted.options and final.option is None):
        yield Finding.NO_FINAL_ANSWER


def _of_comparison(compared: Agreement | None) -> Iterator[Finding]:
    if compared is not None and compared.agrees:
        yield Finding.AGREES
    elif compared is not None and compared.disagrees:
        yield Finding.DISAGREES
