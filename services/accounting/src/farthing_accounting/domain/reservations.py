"""Holding money, tokens and places before a request runs: what is asked, and what may be answered."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Final

from farthing_accounting.domain.budgets import MAX_NANO_USD, MAX_TOKENS, Counter
from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.pricing import Quote
from farthing_accounting.domain.principal import Principal
from farthing_kit.money import HitPrice, NanoUsd, cost
from farthing_kit.usage import Tokens, TokenUsage

MIN_TIME_TO_LIVE: Final = timedelta(seconds=1)
MAX_TIME_TO_LIVE: Final = timedelta(hours=1)
MAX_EXTENSIONS: Final = 128
# Before any reservation.
NEVER: Final = datetime.fromtimestamp(0, UTC)


class Quantity(Enum):
    """What a limit counts."""

    MONEY = "money"
    TOKENS = "tokens"
    CONCURRENCY = "concurrency"
    EXTENSIONS = "extensions"


class ReservationState(Enum):
    """Where a reservation is in its life. An expired one still counts, but for its place, until it is settled or
    released, or until it is known that neither will come."""

    OPEN = "open"
    SETTLED = "settled"
    RELEASED = "released"
    EXPIRED = "expired"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What is to be held: the cost of all the tokens that a request may need, and their number."""

    amount: NanoUsd
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Hold:
    """A reservation as it is asked for. `digest` tells two bodies under one id apart; `places` is how many requests in
    flight it counts as: none, where a cache answers."""

    reservation_id: str
    principal: Principal
    estimate: Estimate
    time_to_live: timedelta
    model: str
    price_version: int
    digest: str
    places: int = 1


@dataclass(frozen=True, slots=True)
class Extension:
    """More for a reservation, under a key of its own."""

    reservation_id: str
    principal: Principal
    idempotency_key: str
    estimate: Estimate
    time_to_live: timedelta
    digest: str


@dataclass(frozen=True, slots=True)
class Held:
    """A reservation as it is. `left` is the money that is left of each limit, None where a limit is not on money;
    `budget_pace` is how fast it goes (see domain/pace.py)."""

    reservation_id: str
    amount: NanoUsd
    tokens: Tokens
    expire_time: datetime
    left: tuple[NanoUsd | None, ...]
    model: str
    price_version: int
    budget_pace: float = 0.0

    @property
    def remaining(self) -> NanoUsd | None:
        """What is left where least is left; None when no budget of money applies."""
        return min((money for money in self.left if money is not None), default=None)


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing was held: `counter` is the first that has no room, `remaining` what it has. None: the reservation itself
    has no room for another extension."""

    counter: Counter | None
    quantity: Quantity
    remaining: int


@dataclass(frozen=True, slots=True)
class Mismatch:
    """The id came before, with another body."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The id is used up."""

    state: ReservationState


@dataclass(frozen=True, slots=True)
class CountersMissing:
    """Redis does not know what was spent: load these from the ledger, install them, ask again. `incarnation` names the
    life of the Redis server that asked."""

    counters: tuple[Counter, ...]
    incarnation: str


@dataclass(frozen=True, slots=True)
class LimitsOutdated:
    """The limits that came with the question are older than a change that was announced: read them again."""


Answer = Held | Refused | Mismatch | Closed
Obstacle = CountersMissing | LimitsOutdated


@dataclass(frozen=True, slots=True)
class Spent:
    """What the ledger says was spent on a counter."""

    counter: Counter
    amount: NanoUsd
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class LedgerPosition:
    """Sums over every transaction up to `transaction_id`, and none after it."""

    transaction_id: int
    spent: tuple[Spent, ...]


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a transaction does to the counters, and to the reservation of its event: a move has none, and its amount and
    tokens are negative where it goes to waste. Done once for each transaction."""

    transaction_id: int
    reservation_id: str
    principal: Principal
    end_time: datetime
    amount: NanoUsd
    tokens: Tokens


@dataclass(frozen=True, slots=True)
class Standing:
    """A counter as it stands: what was spent in its period, and what its scope holds at the moment."""

    counter: Counter
    spent: NanoUsd
    spent_tokens: Tokens
    held: NanoUsd
    held_tokens: Tokens
    in_flight: int


def estimate_of(usage: TokenUsage, quote: Quote, field: str, hit_price: HitPrice | None = None) -> Estimate:
    """The cost of the whole estimate at the quoted prices; `field` names it when it is out of bounds. With `hit_price`
    a cache answers: that share of the cost, and no tokens."""
    if usage.total == 0:
        raise InvalidArgument.field(field, "has no tokens, must have at least one")
    if usage.total > MAX_TOKENS:
        raise InvalidArgument.field(field, f"has too many tokens, must have at most {MAX_TOKENS}")
    whole = cost(usage, quote.prices)
    estimate = Estimate(whole, usage.total) if hit_price is None else Estimate(hit_price.of(whole), Tokens(0))
    if estimate.amount > MAX_NANO_USD:
        raise InvalidArgument.field(field, f"costs too much to hold, must cost at most {MAX_NANO_USD} nano-dollars")
    return estimate


def body_digest(principal: Principal, parts: Sequence[str | int], usage: TokenUsage) -> str:
    """A fingerprint of the body of a call."""
    text = json.dumps([asdict(principal), list(parts), asdict(usage)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]
