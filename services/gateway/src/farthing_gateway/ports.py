"""What the gateway needs from the rest of the mesh. Failures are FarthingErrors; `errors.is_outage` tells absence from
a no."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.attempt import Attempt
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.cascade import Ending
from farthing_gateway.domain.catalogue import ModelPrice, Quote, ServedModel
from farthing_gateway.domain.costs import SupersededCall
from farthing_gateway.domain.events import Decision, Final
from farthing_gateway.domain.grants import Grant
from farthing_gateway.domain.judge import Judged, Opinion
from farthing_gateway.domain.model import CacheLevel, FinishReason, Task, Tier
from farthing_gateway.domain.outcomes import Foretold, Observed
from farthing_gateway.domain.prompt import Message, Question, Sampling
from farthing_gateway.domain.similar import Meaning, Similar, Terms
from farthing_kit.context import RequestContext
from farthing_kit.money import HitPrice, NanoUsd
from farthing_kit.usage import TokenUsage


class KeyAuthority(Protocol):
    """Accounting, asked about API keys."""

    async def authorize(self, api_key: str) -> Grant:
        """Whom the key belongs to; Unauthenticated when it is unknown or revoked."""
        ...


@dataclass(frozen=True, slots=True)
class Found:
    """What the cache said: an answer and how much longer it may be served, or none; and the moment of the look-up, by
    the epoch of the partition and the mark among its invalidations.

    `lease`: the caller makes the answer for all who ask the same; beside an answer, which is to be served, it makes it
    anew. `follow`: somebody else makes it.
    """

    epoch: int
    answer: Answer | None = None
    time_to_live: timedelta = timedelta(0)
    mark: int = 0
    lease: bytes = b""
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """How an answer is looked for: younger than `max_age`; not at all, where only the moment is wanted; with a `claim`
    to make it where it is missing. `prefix` is the digest of what came before the last message."""

    max_age: timedelta | None = None
    moment_only: bool = False
    claim: bool = False
    prefix: bytes = b""


@dataclass(frozen=True, slots=True)
class Kept:
    """An answer to keep, with what the look-up before it said, what it means, and what making it took."""

    answer: Answer
    found: Found
    time_to_live: timedelta
    meaning: Meaning | None = None
    tags: tuple[str, ...] = ()
    cost: NanoUsd = NanoUsd(0)
    took_s: float = 0.0


class AnswerCache(Protocol):
    """The cache. The partition is that of the current request context."""

    async def look_up(self, key: CacheKey, wanted: Wanted) -> Found:
        """An answer to exactly this request."""
        ...

    async def search(self, key: CacheKey, meaning: Meaning, terms: Terms) -> Similar:
        """An answer to a request that means the same."""
        ...

    async def store(self, key: CacheKey, kept: Kept) -> bool:
        """Keep an answer, unless it was forgotten since the look-up; ends the lease. False for one that is not worth
        keeping: it declines to answer."""
        ...

    async def report(self, lookup_id: bytes, *, right: bool) -> None:
        """Whether the answer that a search found was right."""
        ...


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of an answer that somebody else makes."""

    text: str


@dataclass(frozen=True, slots=True)
class Whole:
    """Its end: the answer without its text."""

    answer: Answer


@dataclass(frozen=True, slots=True)
class Lead:
    """Whoever made it was lost: the follower makes it now, under this lease."""

    lease: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """Whoever made it could not."""

    reason: str


FlightNews = Piece | Whole | Lead | Failed


class FlightLine(Protocol):
    """Answers under way, made once for all who ask the same. The partition is that of the current request context."""

    async def publish(self, key: CacheKey, found: Found, offset_bytes: int, text: str, answer: Answer | None) -> None:
        """Hand on the next piece and keep the lease; with `answer`, whose text was published, it is complete. NotFound
        when the lease is lost."""
        ...

    async def release(self, key: CacheKey, found: Found) -> None:
        """Give the lease up: the next follower makes the answer."""
        ...

    def follow(self, key: CacheKey, found: Found) -> AsyncGenerator[FlightNews]:
        """The answer from its beginning. NotFound when nobody makes it, or another one than was begun."""
        ...


class Classifier(Protocol):
    """Judges prompts."""

    async def analyze(self, messages: tuple[Message, ...], *, embedding: bool) -> Analysis:
        """What the last message needs, in the light of those before it. Without `embedding`, the encoder may be left
        out; with it, the analysis says which encoder it was, if that could be learnt."""
        ...


class Judge(Protocol):
    """Reads answers."""

    async def judge(self, judged: Judged) -> Opinion:
        """Whether an answer is acceptable."""
        ...


@dataclass(frozen=True, slots=True)
class Reservation:
    """Money that is held for a request, and the prices that the request was admitted under."""

    reservation_id: str
    amount: NanoUsd
    quote: Quote
    budget_pace: float = 0.0


class Admission(Protocol):
    """Accounting, asked for money. The principal is that of the current request context."""

    async def reserve(
        self, reservation_id: str, model: str, estimate: TokenUsage, life_s: float, hit_price: HitPrice | None = None
    ) -> Reservation:
        """Hold an estimate in every scope at once. The same id and body give the same reservation. With `hit_price` a
        cache answers, with what `model` once wrote: that share of the cost is held, and nothing of quotas."""
        ...

    async def release(self, reservation_id: str) -> None:
        """Give a reservation back: nothing was generated."""
        ...


@dataclass(frozen=True, slots=True)
class Job:
    """One generation, with what accounting must know to book it."""

    model: str
    messages: tuple[Message, ...]
    sampling: Sampling
    reservation_id: str
    quote: Quote
    tier: Tier
    task: Task
    tags: Mapping[str, str]
    attempt: Attempt
    superseded: SupersededCall | None = None
    wants_logprob: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """The work was taken up."""

    pool: str
    quantization: str


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """How it ended, with exact tokens; and how probable they were to the model, where it was asked and knows."""

    finish_reason: FinishReason
    usage: TokenUsage
    mean_token_logprob: float | None = None


Progress = Started | Chunk | Finished


class Scheduler(Protocol):
    """Runs generations. One with the request id of the current context runs at a time."""

    def generate(self, job: Job) -> AsyncGenerator[Progress]:
        """One Started, Chunks, one Finished. Closing the iterator stops the model."""
        ...


@dataclass(frozen=True, slots=True)
class CachedUse:
    """A request that a cache answered in one of the attempts at it, for the books: it avoided the counterfactual cost
    of `answer`, and costs the share `price` of its tokens at `quote`, the prices of the model that wrote it; held by
    the reservation if it is anything."""

    context: RequestContext
    attempt: Attempt
    level: CacheLevel
    answer: Answer
    quote: Quote | None
    tags: Mapping[str, str]
    ended_at: datetime
    price: HitPrice
    reservation_id: str = ""


class UsageBook(Protocol):
    """Where usage that no worker sees is written, once for each attempt."""

    async def record(self, use: CachedUse) -> None:
        """Returns when the record is safe from the death of this process."""
        ...


class OutcomeBook(Protocol):
    """What was foretold about answers, and what became of them, for as long as that is kept. StoreUnavailable where it
    cannot be read or written."""

    def foretell(self, foretold: Foretold) -> None:
        """Remember what was foretold. Returns at once; what finds no room is lost, and counted."""
        ...

    async def find(self, request_id: str) -> Foretold | None:
        """What was foretold about a request; it may be that of any organisation."""
        ...

    async def write(self, observed: Observed) -> bool:
        """What happened. A caller's word replaces what was there; a shadow's counts only where there is none, else
        False."""
        ...

    def observed(self) -> AsyncGenerator[Observed]:
        """All outcomes that are kept, those written first at the beginning."""
        ...


class Prices(Protocol):
    """Accounting's price list."""

    async def list_prices(self) -> Iterable[ModelPrice]:
        """The prices in force."""
        ...


class Pools(Protocol):
    """Inference's pools."""

    async def list_models(self) -> Iterable[ServedModel]:
        """Every model of every pool."""
        ...


class InvalidationLine(Protocol):
    """The line on which the mesh says what must be forgotten."""

    def era(self) -> int | None:
        """A number that changes whenever something may have been missed; None while nothing can be heard."""
        ...

    def current(self) -> bool:
        """Whether everything was heard that had been said a moment ago: who says it waits as long."""
        ...

    def unbroken(self) -> int | None:
        """While current: a number that stays the same for as long as nothing can have been missed. Else None."""
        ...


class Observer(Protocol):
    """Shows requests to whoever watches: metrics, and the span at hand."""

    def accepted(self, context: RequestContext, question: Question) -> None:
        """A request was understood, and goes on its way."""
        ...

    def decided(self, decision: Decision) -> None:
        """It is known where the answer comes from."""
        ...

    def ended(self, decision: Decision, final: Final) -> None:
        """A request was answered."""
        ...

    def cascaded(self, ending: Ending) -> None:
        """A cascade came to its end."""
        ...

    def searched(self, result: str) -> None:
        """The semantic cache was asked: hit, error, or in a word why it missed."""
        ...

    def flew(self, role: str) -> None:
        """A request leads, follows, takes over, or goes on alone."""
        ...

    def near_size(self, entries: int, size_bytes: int) -> None:
        """How much the near cache holds."""
        ...
