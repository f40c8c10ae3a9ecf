"""What the judge is asked about an answer, and what it says."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.domain.model import FinishReason, Task, Tier
from farthing_gateway.domain.prompt import Message


@dataclass(frozen=True, slots=True)
class Judged:
    """An answer, with what is known about how it was made. With a `reference_answer` of a larger model, the question is
    whether the two agree."""

    messages: tuple[Message, ...]
    answer: str
    finish_reason: FinishReason
    tier: Tier
    task: Task = Task.UNSPECIFIED
    prior_success: float | None = None
    mean_token_logprob: float | None = None
    reference_answer: str = ""


@dataclass(frozen=True, slots=True)
class Opinion:
    """The calibrated probability that an answer is acceptable, and the names of what was found in it."""

    acceptable: float
    findings: tuple[str, ...] = ()
    model_version: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge's opinion came to in a cascade."""

    opinion: Opinion
    threshold: float
    accepted: bool
