"""What a caller asks for, as it came and as it is understood."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta

from farthing_gateway.domain.model import Tier


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a conversation. `role` is a number of model.Role once the prompt was accepted."""

    role: int
    content: str


@dataclass(frozen=True, slots=True)
class AskedSampling:
    """Sampling as the caller wrote it; None where nothing was said."""

    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    seed: int = 0
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CacheControl:
    """What the caches may do with one request."""

    no_cache: bool = False
    no_store: bool = False
    max_age: timedelta | None = None
    tags: tuple[str, ...] = ()
    min_score: float | None = None


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request as it came: nothing is checked yet, numbers of enums may be unknown."""

    messages: tuple[Message, ...]
    sampling: AskedSampling = AskedSampling()
    tier: int = 0
    model: str = ""
    cache_control: CacheControl = CacheControl()
    priority: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    idempotency_key: str = ""
    session_id: str = ""
    quality_floor: float | None = None


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling with every default filled in."""

    max_output_tokens: int
    temperature: float
    top_p: float
    seed: int
    stop: tuple[str, ...]

    @property
    def deterministic(self) -> bool:
        """Whether the same request gets the same answer, so that one answer may stand for the next."""
        return self.temperature == 0.0


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt that was accepted under a policy."""

    messages: tuple[Message, ...]
    sampling: Sampling
    tier: Tier
    model: str
    cache_control: CacheControl
    tags: Mapping[str, str]
    session_id: str = ""
    quality_floor: float | None = None
