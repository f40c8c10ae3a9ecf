"""Answers of requests that mean the same: what is asked of the semantic cache, and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from farthing_gateway.domain.analysis import Analysis, AnalysisFlag
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.model import Role, Task, Tier
from farthing_gateway.domain.objectives import PRACTICALLY_EQUAL
from farthing_gateway.domain.prompt import Question
from farthing_gateway.domain.routing import ON_EVIDENCE, Choice


@dataclass(frozen=True, slots=True)
class Meaning:
    """What the meaning of a request is told by. `text` is its last message; `truncated`: the embedding does not cover
    it."""

    embedding: bytes
    encoder_sha256: bytes
    text: str
    has_history: bool
    truncated: bool


@dataclass(frozen=True, slots=True)
class Terms:
    """What a semantic hit must keep to: answers of at least this tier, wrong ones at most this share of all requests,
    younger than `max_age`, above `min_score`."""

    task: Task
    min_tier: Tier
    max_error_share: float
    max_age: timedelta | None = None
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Similar:
    """What was found. The answer is for serving, or, with `compare`, for comparison with a fresh one. `missed` says
    why nothing is served, in one word of the cache's."""

    answer: Answer | None = None
    served: bool = False
    compare: bool = False
    similarity: float = 0.0
    score: float = 0.0
    threshold: float = 0.0
    lookup_id: bytes = b""
    missed: str = ""

    @property
    def explanation(self) -> str:
        """Why the answer is served, in a sentence."""
        return (
            "A request that means the same was answered before: "
            f"its score is {self.score:.3f} of the {self.threshold:.3f} it needs, the cosine {self.similarity:.3f}."
        )


NOT_ASKED: Final = Similar()


def meaning_of(question: Question, analysis: Analysis | None) -> Meaning | None:
    """The meaning of the last message; None where the classifier did not say which encoder saw what."""
    if analysis is None or not analysis.embedding or not analysis.encoder_sha256:
        return None
    return Meaning(
        embedding=analysis.embedding,
        encoder_sha256=analysis.encoder_sha256,
        text=question.messages[-1].content,
        has_history=any(message.role != Role.SYSTEM for message in question.messages[:-1]),
        truncated=AnalysisFlag.TRUNCATED in analysis.flags,
    )


def least_tier(choice: Choice, practically_equal: float = PRACTICALLY_EQUAL) -> Tier:
    """The least tier whose answers may stand for those of the chosen one: one that is as good for this prompt, where
    the choice rests on what the tiers are worth; otherwise the chosen one itself."""
    tier, routing = choice.model.tier, choice.routing
    chosen = routing.option(tier) if routing is not None and routing.reason in ON_EVIDENCE else None
    if routing is None or chosen is None:
        return tier
    as_good = [each.tier for each in routing.options if each.success >= chosen.success - practically_equal]
    return min([tier, *as_good])
