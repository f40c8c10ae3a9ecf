"""What a caller hears about a request: a decision, pieces of the answer, the end."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.costs import Costs
from farthing_gateway.domain.judge import Verdict
from farthing_gateway.domain.model import CacheLevel, FinishReason, Tier
from farthing_gateway.domain.routing import Routing
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage


class Part(IntEnum):
    """What can be missing without the answer going missing."""

    CACHE = 1
    CLASSIFIER = 2
    ACCOUNTING = 3
    AUTHENTICATION = 4
    JUDGE = 5
    ESCALATION = 6


@dataclass(frozen=True, slots=True)
class Degradation:
    """Something that could not be done as usual, and what was done instead."""

    part: Part
    consequence: str


@dataclass(frozen=True, slots=True)
class Decision:
    """What the mesh decided about a request."""

    request_id: str
    cache_level: CacheLevel
    tier: Tier
    model: str
    quantization: str
    explanation: str
    similarity: float = 0.0
    pool: str = ""
    analysis: Analysis | None = None
    reservation_id: str = ""
    reserved: NanoUsd | None = None
    degradations: tuple[Degradation, ...] = ()
    routing: Routing | None = None
    buffered: bool = False


@dataclass(frozen=True, slots=True)
class Delta:
    """The next piece of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelCall:
    """One call of a model: the id that it is booked under, and what a judge found in its answer."""

    request_id: str
    model: str
    tier: Tier
    usage: TokenUsage
    cost: NanoUsd
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True)
class Final:
    """How a request ended, and what it cost: the sum of its calls. Times are seconds from its arrival."""

    finish_reason: FinishReason
    usage: TokenUsage
    costs: Costs
    time_to_first_token_s: float
    duration_s: float
    calls: tuple[ModelCall, ...] = ()


Event = Decision | Delta | Final
