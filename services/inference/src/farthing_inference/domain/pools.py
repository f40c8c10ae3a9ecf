"""Pools of Triton servers: what runs where, at which price."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from typing import NewType

from farthing_inference.domain.markers import Markers
from farthing_kit.money import NanoUsd

# "host:port" of one Triton server's gRPC endpoint.
ServerAddress = NewType("ServerAddress", str)


class Tier(Enum):
    """The class of a model. A model of no tier is only reached by its name."""

    NONE = "none"
    SMALL = "small"
    MEDIUM = "medium"
    LARGE = "large"


class Market(Enum):
    """How a pool's capacity is bought."""

    ON_DEMAND = "on_demand"
    SPOT = "spot"
    RESERVED = "reserved"
    OWNED = "owned"


class PoolState(Enum):
    """Whether a pool takes work."""

    ACTIVE = "active"
    DRAINING = "draining"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model as a pool serves it.

    `name` is what requests use, `triton_model` what Triton calls it, `adapter` the tensors it speaks. `chat_template`
    is Jinja source; None joins the messages' texts. `markers` are strings that the engine would read as control tokens;
    `stop` are strings that end its answers, beside the caller's.
    """

    name: str
    tier: Tier
    weights: str
    quantization: str
    triton_model: str
    adapter: str
    context_tokens: int
    chat_template: str | None = None
    markers: Markers = Markers()
    stop: tuple[str, ...] = ()
    notes: str = ""


@dataclass(frozen=True, slots=True)
class PoolSpec:
    """Like servers of one kind of hardware. The price and `max_in_flight` are those of one server."""

    name: str
    accelerator: str
    market: Market
    price_per_hour: NanoUsd
    servers: tuple[ServerAddress, ...]
    max_in_flight: int
    models: tuple[ModelSpec, ...]

    @property
    def price_per_slot(self) -> Fraction:
        """What one place for a generation costs for an hour: compares a large GPU with a small one."""
        return Fraction(self.price_per_hour, self.max_in_flight)

    def model(self, name: str) -> ModelSpec | None:
        """The model of that name, if the pool serves it."""
        return next((model for model in self.models if model.name == name), None)


@dataclass(frozen=True, slots=True)
class Placement:
    """Where one generation runs."""

    pool: PoolSpec
    server: ServerAddress
    model: ModelSpec


@dataclass(frozen=True, slots=True)
class PoolStatus:
    """A pool as it is now."""

    spec: PoolSpec
    state: PoolState
    in_flight: int
    servers_up: int
    ready_models: frozenset[str] = frozenset()
