"""What was foretold about an answer, and what became of it."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.judge import Opinion
from farthing_gateway.domain.model import CacheLevel, FinishReason, Task, Tier
from farthing_gateway.domain.prompt import Question
from farthing_gateway.domain.similar import Similar

# One token of a subject, as the scheduler has it: neither a dot nor a wildcard.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")
SHADOW_SUFFIX: Final = "-shadow"
# Findings of farthing.classifier.v1.AnswerFinding.
AGREES: Final = "AGREES"
DISAGREES: Final = "DISAGREES"


class Outcome(IntEnum):
    """Whether an answer was good enough."""

    ACCEPTABLE = 1
    NOT_ACCEPTABLE = 2


class OutcomeSource(IntEnum):
    """Who said so."""

    CALLER = 1
    SHADOW = 2


@dataclass(frozen=True, slots=True)
class Foretold:
    """What the classifier said about the tier that answered, before it did. `score` is the log-odds before calibration,
    `success` the probability after it. `cascade`: a judge had its say about the answer too. `lookup_id`: of a
    semantic hit, whose evidence the outcome is too."""

    request_id: str
    org: str
    decided_at: datetime
    tier: Tier
    model: str
    task: Task
    score: float
    success: float
    model_version: str
    calibration_version: str
    cache_level: CacheLevel = CacheLevel.NONE
    cascade: bool = False
    lookup_id: bytes = b""


@dataclass(frozen=True, slots=True)
class Observed:
    """What was foretold, what happened, and who said so."""

    foretold: Foretold
    outcome: Outcome
    source: OutcomeSource


def is_request_id(text: str) -> bool:
    """Whether this can be the id of a request: ids come from callers, and name subjects of the queue."""
    return _REQUEST_ID.fullmatch(text) is not None


def foretold(
    request_id: str, org: str, analysis: Analysis | None, answer: Answer, *, cascade: bool = False
) -> Foretold | None:
    """What had been foretold about an answer; None where the classifier was not asked, or said nothing of its tier."""
    outlook = analysis.outlook(answer.tier) if analysis is not None else None
    if analysis is None or outlook is None:
        return None
    return Foretold(
        request_id=request_id,
        org=org,
        decided_at=answer.created_at,
        tier=answer.tier,
        model=answer.model,
        task=analysis.task,
        score=outlook.score,
        success=outlook.success,
        model_version=analysis.model_version,
        calibration_version=analysis.calibration_version,
        cascade=cascade,
    )


def of_similar(request_id: str, org: str, similar: Similar, task: Task, now: datetime) -> Foretold | None:
    """What a semantic hit is remembered by. Nothing was foretold about a tier: its outcome is evidence for the cache
    alone."""
    answer = similar.answer
    if answer is None or not similar.lookup_id:
        return None
    return Foretold(
        request_id=request_id,
        org=org,
        decided_at=now,
        tier=answer.tier,
        model=answer.model,
        task=task,
        score=0.0,
        success=0.0,
        model_version="",
        calibration_version="",
        cache_level=CacheLevel.SEMANTIC,
        lookup_id=similar.lookup_id,
    )


def deserves_shadow(told: Foretold, answer: Answer, question: Question, share: float) -> bool:
    """Whether the large tier shall answer too: a fixed share of the complete answers of lesser tiers, the same ones on
    every gateway. Not what a cascade compared already, nor what the caller wants kept nowhere."""
    return (
        not told.cascade
        and told.tier < Tier.LARGE
        and answer.finish_reason is FinishReason.STOP
        and not question.cache_control.no_store
        and is_request_id(shadow_id(told.request_id))
        and gets_shadow(told.request_id, share)
    )


def agreement(opinion: Opinion) -> Outcome | None:
    """What a comparison with the large tier's answer says; None where the judge found neither."""
    if AGREES in opinion.findings:
        return Outcome.ACCEPTABLE
    return Outcome.NOT_ACCEPTABLE if DISAGREES in opinion.findings else None


def shadow_id(request_id: str) -> str:
    """The id under which the shadow of a request runs and is booked."""
    return request_id + SHADOW_SUFFIX


def gets_shadow(request_id: str, share: float) -> bool:
    """Whether a request is one of the share: its id alone decides. Salted, so that what else goes by the hash of an id
    picks other requests."""
    digest = hashlib.sha256(b"farthing shadow v1:" + request_id.encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64 < share
