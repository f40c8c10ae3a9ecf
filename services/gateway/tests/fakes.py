"""Ports of the gateway that truly work, in memory; `Mesh` puts them together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta

from farthing_gateway.app.admissions import Admissions, Need
from farthing_gateway.app.authentication import Authentication
from farthing_gateway.app.background import Background
from farthing_gateway.app.caches import Caches, Memory
from farthing_gateway.app.cascade import Cascades
from farthing_gateway.app.comparison import Comparisons
from farthing_gateway.app.flights import Flights, Pace
from farthing_gateway.app.gateway import Gateway
from farthing_gateway.app.generation import Calls
from farthing_gateway.app.idempotency import Idempotency
from farthing_gateway.app.judgement import Judgement
from farthing_gateway.app.learning import Learning
from farthing_gateway.app.models import Models
from farthing_gateway.app.one_request import OneRequest
from farthing_gateway.app.refresh import Refreshes
from farthing_gateway.app.replay import Replay
from farthing_gateway.app.routing import Router
from farthing_gateway.app.shadow import Shadows
from farthing_gateway.domain.acceptance import Limits
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.cascade import Ending
from farthing_gateway.domain.catalogue import ModelPrice, Quote, ServedModel, catalogue
from farthing_gateway.domain.claims import Claims
from farthing_gateway.domain.errors import key_invalid
from farthing_gateway.domain.events import Decision, Delta, Event, Final
from farthing_gateway.domain.grace import Grace
from farthing_gateway.domain.grants import Grant, Grants
from farthing_gateway.domain.judge import Judged, Opinion
from farthing_gateway.domain.model import CacheLevel, FinishReason
from farthing_gateway.domain.nearcache import NearCache
from farthing_gateway.domain.outcomes import Foretold, Observed, OutcomeSource
from farthing_gateway.domain.pace import Paces
from farthing_gateway.domain.prompt import Message, Prompt, Question
from farthing_gateway.domain.similar import Meaning, Similar, Terms
from farthing_gateway.ports import (
    CachedUse,
    Chunk,
    Finished,
    FlightNews,
    Found,
    Job,
    Kept,
    Lead,
    Piece,
    Progress,
    Reservation,
    Started,
    Wanted,
    Whole,
)
from farthing_kit.clock import Clock
from farthing_kit.context import Principal, RequestContext, require_context
from farthing_kit.errors import FarthingError, NotFound, Unavailable
from farthing_kit.money import HitPrice
from farthing_kit.telemetry import logs
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import TokenUsage
from services.gateway.tests.values import MODELS, POLICY, PRICES, USAGE, analysis, policy

AWAY = Unavailable("away")
PACE = Pace(gather_s=0.0, beat_s=10.0)


class Switch:
    """A part that can be taken away: `error` is raised while it is set."""

    def __init__(self) -> None:
        self.error: FarthingError | None = None
        self.calls = 0

    def passed(self) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error


class FakeKeys(Switch):
    """The KeyAuthority port: knows the keys it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.grants = {
            "fk_acme": Grant(Principal("acme", "search", "u1", "k_acme"), POLICY, 60.0),
            "fk_beta": Grant(Principal("beta", "", "", "k_beta"), POLICY, 60.0),
        }

    async def authorize(self, api_key: str) -> Grant:
        self.passed()
        if api_key not in self.grants:
            raise key_invalid()
        return self.grants[api_key]


@dataclass
class FakeFlight:
    """An answer under way."""

    lease: bytes
    text: str = ""
    end: Answer | None = None
    gone: bool = False


class FakeCache(Switch):
    """The ports AnswerCache and FlightLine: partitions by the current context's organisation. `similar` is what a
    search finds; `sharing`: claims are taken; `mark` moves with each invalidation;
    `deaf`: how many calls of Follow fail."""

    def __init__(self, clock: Clock, *, sharing: bool = True) -> None:
        super().__init__()
        self._clock = clock
        self.sharing = sharing
        self.epochs: dict[str, int] = {}
        self.mark = 1
        self.entries: dict[tuple[str, int, CacheKey], Answer] = {}
        self.kept: list[Kept] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.similar = Similar(missed="no_candidate")
        self.searches: list[tuple[CacheKey, Meaning, Terms]] = []
        self.reports: list[tuple[bytes, bool]] = []
        self.flights: dict[tuple[str, CacheKey, int], FakeFlight] = {}
        self.published: list[str] = []
        self.leases = 0
        self.refresh_lease = False
        self.followers = 0
        self.look_ups = 0
        self.deaf = 0
        self.worthless = False
        self._news = asyncio.Event()

    async def look_up(self, key: CacheKey, wanted: Wanted) -> Found:
        self.passed()
        self.look_ups += 1
        await self.gate.wait()
        org = require_context().principal.org
        epoch = self.epochs.setdefault(org, 1)
        answer = None if wanted.moment_only else self.entries.get((org, epoch, key))
        if answer is not None and answer.is_younger_than(wanted.max_age, self._clock.now()):
            lease = self._lease(org, key, self.mark) if self.refresh_lease else b""
            return Found(epoch, answer, timedelta(hours=1), mark=self.mark, lease=lease)
        if not wanted.claim or not self.sharing:
            return Found(epoch, mark=self.mark)
        if (org, key, self.mark) in self.flights:
            return Found(epoch, mark=self.mark, follow=True)
        return Found(epoch, mark=self.mark, lease=self._lease(org, key, self.mark))

    async def search(self, key: CacheKey, meaning: Meaning, terms: Terms) -> Similar:
        self.passed()
        self.searches.append((key, meaning, terms))
        return self.similar

    async def store(self, key: CacheKey, kept: Kept) -> bool:
        self.passed()
        org = require_context().principal.org
        if self.worthless:
            return False
        self.kept.append(kept)
        if self.epochs.get(org) == kept.found.epoch and kept.found.mark in (0, self.mark):
            self.entries[org, kept.found.epoch, key] = kept.answer
        flight = self.flights.pop((org, key, kept.found.mark), None)
        if flight is not None:
            flight.text, flight.end = kept.answer.text, kept.answer
            self._tell()
        return True

    async def report(self, lookup_id: bytes, *, right: bool) -> None:
        self.passed()
        self.reports.append((lookup_id, right))

    async def publish(self, key: CacheKey, found: Found, offset_bytes: int, text: str, answer: Answer | None) -> None:
        self.passed()
        flight = self.flights.get((require_context().principal.org, key, found.mark))
        if flight is None or flight.lease != found.lease:
            raise NotFound("lost")
        assert offset_bytes == len(flight.text.encode())
        self.published.append(text)
        flight.text += text
        flight.end = answer
        if answer is not None:
            del self.flights[require_context().principal.org, key, found.mark]
        self._tell()

    async def release(self, key: CacheKey, found: Found) -> None:
        self.passed()
        flight = self.flights.get((require_context().principal.org, key, found.mark))
        if flight is not None and flight.lease == found.lease:
            flight.gone = True
            self._tell()

    async def follow(self, key: CacheKey, found: Found) -> AsyncGenerator[FlightNews]:
        self.passed()
        if self.deaf:
            self.deaf -= 1
            raise AWAY
        self.followers += 1
        org = require_context().principal.org
        flight, sent = self.flights.get((org, key, found.mark)), 0
        while flight is not None:
            news = self._news
            if more := flight.text[sent:]:
                sent += len(more)
                yield Piece(more)
            elif flight.end is not None:
                yield Whole(flight.end)
                return
            elif flight.gone:
                yield Lead(self._lease(org, key, found.mark))
                return
            else:
                await news.wait()
        raise NotFound("nobody makes it")

    def _lease(self, org: str, key: CacheKey, mark: int) -> bytes:
        self.leases += 1
        lease = b"lease %d" % self.leases
        self.flights[org, key, mark] = FakeFlight(lease)
        return lease

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()


class FakeClassifier(Switch):
    """The Classifier port: says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.analysis = analysis()
        self.embeddings: list[bool] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def analyze(self, messages: tuple[Message, ...], *, embedding: bool) -> Analysis:
        self.passed()
        self.embeddings.append(embedding)
        await self.gate.wait()
        return self.analysis


class FakeJudge(Switch):
    """The Judge port: says what it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.opinion = Opinion(0.9, ("ARITHMETIC_HOLDS",), "j1")
        self.asked: list[Judged] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def judge(self, judged: Judged) -> Opinion:
        self.passed()
        self.asked.append(judged)
        await self.gate.wait()
        return self.opinion


class FakeAdmission(Switch):
    """The Admission port: holds what is reserved until it is released. `refusals`: errors by model."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[str, tuple[str, TokenUsage]] = {}
        self.hit_prices: dict[str, HitPrice | None] = {}
        self.released: list[str] = []
        self.refusals: dict[str, FarthingError] = {}
        self.lives_s: list[float] = []
        self.budget_pace = 0.0
        self.gate = asyncio.Event()
        self.gate.set()

    async def reserve(
        self, reservation_id: str, model: str, estimate: TokenUsage, life_s: float, hit_price: HitPrice | None = None
    ) -> Reservation:
        self.passed()
        if model in self.refusals:
            raise self.refusals[model]
        quote = quote_of(model)
        self.held[reservation_id] = (model, estimate)
        self.hit_prices[reservation_id] = hit_price
        self.lives_s.append(life_s)
        await self.gate.wait()
        return Reservation(reservation_id, Need("", model, estimate, hit_price).worst(quote), quote, self.budget_pace)

    async def release(self, reservation_id: str) -> None:
        self.passed()
        self.held.pop(reservation_id, None)
        self.released.append(reservation_id)


def quote_of(model: str) -> Quote:
    """The quote of a model of the tests."""
    quote = catalogue(MODELS, PRICES).quote(model)
    assert quote is not None
    return quote


class FakeScheduler(Switch):
    """The Scheduler port: answers in pieces; a test can stop it between two of them. `others` has the steps of models
    that answer otherwise; only what is in `pausing` pauses, if anything is."""

    def __init__(self) -> None:
        super().__init__()
        self.jobs: list[tuple[str, Job]] = []
        self.contexts: list[RequestContext] = []
        self.steps: list[Progress | FarthingError] = [
            Started("cpu-local", "INT4"),
            Chunk("Par"),
            Chunk("is."),
            Finished(FinishReason.STOP, USAGE),
        ]
        self.stopped = 0
        self.others: dict[str, list[Progress | FarthingError]] = {}
        self.pausing: set[str] = set()
        self.pause_after: int | None = None
        self.paused = asyncio.Event()
        self.go_on = asyncio.Event()

    async def generate(self, job: Job) -> AsyncGenerator[Progress]:
        self.passed()
        self.contexts.append(require_context())
        self.jobs.append((require_context().request_id, job))
        told = 0
        steps = self.others.get(job.model, self.steps)
        try:
            await self._pause(told, job)
            for step in steps:
                if isinstance(step, FarthingError):
                    raise step
                told += 1
                yield step
                await self._pause(told, job)
        finally:
            self.stopped += told < len(steps)

    async def _pause(self, told: int, job: Job) -> None:
        if told == self.pause_after and job.model in (self.pausing or {job.model}):
            self.paused.set()
            await self.go_on.wait()


class FakeUsage(Switch):
    """The UsageBook port."""

    def __init__(self) -> None:
        super().__init__()
        self.booked: list[CachedUse] = []

    async def record(self, use: CachedUse) -> None:
        self.passed()
        self.booked.append(use)


class FakeOutcomeBook(Switch):
    """The OutcomeBook port."""

    def __init__(self) -> None:
        super().__init__()
        self.told: dict[str, Foretold] = {}
        self.written: dict[str, Observed] = {}

    def foretell(self, foretold: Foretold) -> None:
        self.told[foretold.request_id] = foretold

    async def find(self, request_id: str) -> Foretold | None:
        self.passed()
        return self.told.get(request_id)

    async def write(self, observed: Observed) -> bool:
        self.passed()
        before = self.written.pop(observed.foretold.request_id, None)
        first = before is None or observed.source is OutcomeSource.CALLER
        self.written[observed.foretold.request_id] = observed if first or before is None else before
        return first

    async def observed(self) -> AsyncGenerator[Observed]:
        self.passed()
        for each in list(self.written.values()):
            yield each


class FakePools(Switch):
    """The Pools port."""

    def __init__(self) -> None:
        super().__init__()
        self.models = MODELS

    async def list_models(self) -> tuple[ServedModel, ...]:
        self.passed()
        return self.models


class FakePrices(Switch):
    """The Prices port; says nothing while its gate is closed."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.gate.set()

    async def list_prices(self) -> tuple[ModelPrice, ...]:
        self.passed()
        await self.gate.wait()
        return PRICES


@dataclass
class FakeLine:
    """The InvalidationLine port."""

    now: int | None = 0
    in_time: bool = True

    def era(self) -> int | None:
        return self.now

    def current(self) -> bool:
        return self.in_time

    def unbroken(self) -> int | None:
        return self.now if self.in_time else None


@dataclass
class Watcher:
    """The Observer port."""

    accepts: list[RequestContext] = field(default_factory=list)
    decisions: list[Decision] = field(default_factory=list)
    ends: list[Final] = field(default_factory=list)
    endings: list[Ending] = field(default_factory=list)
    searches: list[str] = field(default_factory=list)
    flights: list[str] = field(default_factory=list)
    near: tuple[int, int] = (0, 0)

    def accepted(self, context: RequestContext, question: Question) -> None:
        self.accepts.append(context)

    def decided(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def ended(self, decision: Decision, final: Final) -> None:
        self.ends.append(final)

    def cascaded(self, ending: Ending) -> None:
        self.endings.append(ending)

    def searched(self, result: str) -> None:
        self.searches.append(result)

    def flew(self, role: str) -> None:
        self.flights.append(role)

    def near_size(self, entries: int, size_bytes: int) -> None:
        self.near = (entries, size_bytes)


@dataclass(frozen=True)
class Told:
    """Everything that a caller heard."""

    events: tuple[Event, ...]

    @property
    def decision(self) -> Decision:
        decision = self.events[0]
        assert isinstance(decision, Decision)
        return decision

    @property
    def final(self) -> Final:
        final = self.events[-1]
        assert isinstance(final, Final)
        return final

    @property
    def text(self) -> str:
        return "".join(event.text for event in self.events if isinstance(event, Delta))

    @property
    def level(self) -> CacheLevel:
        return self.decision.cache_level

    @property
    def degraded(self) -> set[str]:
        return {degradation.part.name for degradation in self.decision.degradations}


class Mesh:
    """The gateway's use cases over parts in memory."""

    def __init__(self, *, hedge_s: float = 10.0, pace: Pace = PACE) -> None:
        self.clock = VirtualClock()
        self.keys = FakeKeys()
        self.cache = FakeCache(self.clock)
        self.classifier = FakeClassifier()
        self.judge = FakeJudge()
        self.admission = FakeAdmission()
        self.scheduler = FakeScheduler()
        self.usage = FakeUsage()
        self.pools = FakePools()
        self.prices = FakePrices()
        self.line = FakeLine()
        self.watcher = Watcher()
        self.grants = Grants(limit=100, stale_s=300.0, refusal_s=2.0)
        self.near = NearCache(max_bytes=10_000, max_entry_bytes=5_000, time_to_live_s=30.0)
        self.grace = Grace(quiet_s=30.0)
        self.paces = Paces()
        self.claims = Claims(limit=100)
        self.background = Background(limit=10, timeout_s=5.0, log=logs.get("test"))
        self.models = Models(self.pools, self.prices, clock=self.clock, refresh_s=10.0, log=logs.get("test"))
        self.outcomes = FakeOutcomeBook()
        self.shadowed: list[str] = []
        self.gateway = self._gateway(hedge_s, pace)

    def _gateway(self, hedge_s: float, pace: Pace) -> Gateway:
        admissions = Admissions(self.admission, self.grace, self.background, self.clock, self.paces)
        calls = Calls(admissions, self.scheduler, self.clock)
        caches = Caches(Memory(self.near, self.line), self.cache, self.cache, self.background, self.clock, self.watcher)
        judgement = Judgement(self.classifier, hedge_s=hedge_s)
        self.flights = flights = Flights(self.cache, self.background, self.watcher, pace)
        log = logs.get("test")
        self.refreshing = Refreshes(calls, self.models, judgement, caches, flights, self.clock, log)
        way = OneRequest(
            caches=caches,
            flights=flights,
            refreshes=self.refreshing,
            judgement=judgement,
            models=self.models,
            router=Router(self.clock, paces=self.paces),
            calls=calls,
            cascades=Cascades(calls, self.judge, self.watcher),
            replay=Replay(self.models, admissions, self.usage, self.watcher, self.clock),
            learning=Learning(self.outcomes, self.shadows(calls), Comparisons(self.cache, self.judge, self.background)),
            observer=self.watcher,
            clock=self.clock,
        )
        answers = NearCache(max_bytes=100_000, max_entry_bytes=50_000, time_to_live_s=86_400.0)
        return Gateway(
            authentication=Authentication(self.keys, self.grants, self.line, self.clock, salt=b"salt"),
            limits=Limits(),
            idempotency=Idempotency(self.claims, answers, self.clock),
            way=way,
            models=self.models,
            observer=self.watcher,
            clock=self.clock,
        )

    def shadows(self, calls: Calls) -> Shadows:
        """Shadows, of which the tests count what became of them in `shadowed`."""
        self.shading = Shadows(
            calls, self.models, self.judge, self.outcomes, self.clock, logs.get("test"), self.shadowed.append
        )
        return self.shading

    async def ask(self, prompt: Prompt, key: str | None = "fk_acme") -> Told:
        """Ask, and let what is left behind run to its end."""
        events = [event async for event in self.gateway.answer(key, prompt)]
        await self.shading.drain()
        await self.refreshing.drain()
        await self.flights.drain()
        await self.background.drain()
        return Told(tuple(events))

    def set_policy(self, **changes: object) -> None:
        """Give the tenant acme another policy."""
        grant = self.keys.grants["fk_acme"]
        self.keys.grants["fk_acme"] = Grant(grant.principal, policy(**changes), grant.time_to_live_s)

    def forget_near(self) -> None:
        """Empty the gateway's memory, as another replica would have it."""
        self.near.clear()
