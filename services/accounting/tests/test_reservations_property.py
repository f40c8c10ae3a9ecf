"""Whatever is done in whatever order, the Lua answers as the model does."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import hypothesis.strategies as st
from hypothesis import given, settings
from redis.asyncio import Redis

from farthing_accounting.adapters.redis.reservations import RedisReservations
from farthing_accounting.domain.reservations import CountersMissing, LedgerPosition, Spent
from farthing_accounting.domain.windows import Window
from farthing_kit.money import NanoUsd
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import Tokens
from services.accounting.tests.builders import (
    ADA,
    BOB,
    budget,
    extension,
    hold,
    key_scope,
    limits,
    org_scope,
    settlement,
    team_scope,
)
from services.accounting.tests.conftest import Books
from services.accounting.tests.model import ModelReservations

BUDGETS = (
    budget(org_scope(), Window.DAY, money=NanoUsd(500), concurrency=4),
    budget(org_scope(), Window.MONTH, tokens=60),
    budget(team_scope(), Window.MINUTE, money=NanoUsd(200), tokens=40),
    budget(key_scope(), Window.DAY, money=NanoUsd(150), concurrency=2),
    budget(key_scope(BOB.key_id), Window.DAY, concurrency=1),
)
NAMES = st.sampled_from(["r1", "r2", "r3", "r4"])
WHO = st.sampled_from([ADA, BOB])
AMOUNT = st.integers(0, 120)
TOKENS = st.integers(1, 30)
SECONDS = st.integers(1, 90)
STEP = st.one_of(
    st.tuples(st.just("reserve"), NAMES, WHO, AMOUNT, TOKENS, SECONDS),
    st.tuples(st.just("reserve for a hit"), NAMES, WHO, AMOUNT, SECONDS),
    st.tuples(st.just("extend"), NAMES, WHO, AMOUNT, TOKENS, SECONDS, st.sampled_from(["x1", "x2"])),
    st.tuples(st.just("release"), NAMES),
    st.tuples(st.just("book"), NAMES | st.just(""), WHO, AMOUNT, TOKENS, st.booleans()),
    st.tuples(st.just("settle"), st.integers(1, 3), st.booleans()),
    st.tuples(st.just("wait"), SECONDS),
    st.tuples(st.just("look"), WHO),
    st.tuples(st.just("books are current until"), SECONDS),
)


class Twins:
    """Does every step on both, and compares what they say."""

    def __init__(self, model: ModelReservations, real: RedisReservations, clock: VirtualClock, books: Books) -> None:
        self.both = (model, real)
        self.clock = clock
        self.books = books
        self.booked: list[Any] = []

    async def do(self, step: tuple[Any, ...]) -> None:
        match step:
            case ("reserve", name, who, amount, tokens, seconds):
                asked = hold(name, amount, tokens, principal=who, time_to_live=timedelta(seconds=seconds))
                await self.ask("reserve", asked, who)
            case ("reserve for a hit", name, who, amount, seconds):
                life = timedelta(seconds=seconds)
                await self.ask("reserve", hold(name, amount, 0, principal=who, time_to_live=life, places=0), who)
            case ("extend", name, who, amount, tokens, seconds, key):
                more = extension(name, key, amount, tokens, principal=who, time_to_live=timedelta(seconds=seconds))
                await self.ask("extend", more, who)
            case ("release", name):
                await self.same("release", "acme", name)
            case ("book", name, who, amount, tokens, late):
                end = self.clock.now() - timedelta(seconds=70 if late else 0)
                number = len(self.booked) + 1
                self.booked.append(settlement(number, name, amount, tokens, principal=who, end_time=end))
            case ("settle", back, recount):
                await self.same("settle", self.booked[-back:][:1], recount=recount)
            case ("wait", seconds):
                await self.clock.advance(seconds)
            case ("books are current until", ago):
                self.books.lapse = max(self.books.lapse, self.clock.now() - timedelta(seconds=ago))
            case ("look", who):
                counters = [limit.counter for limit in self.limits(who)]
                await self.loaded("standing", "acme", counters)

    def limits(self, who: Any) -> Any:
        return limits(*BUDGETS, principal=who, now=self.clock.now())

    async def ask(self, method: str, question: Any, who: Any) -> None:
        await self.loaded(method, question, self.limits(who), 0)

    async def loaded(self, method: str, *args: Any) -> None:
        answer = await self.same(method, *args)
        if isinstance(answer, CountersMissing):
            await self.load(answer)
            answer = await self.same(method, *args)
        assert not isinstance(answer, CountersMissing)

    async def load(self, missing: CountersMissing) -> None:
        spent = tuple(self.spent(counter) for counter in missing.counters)
        for store in self.both:
            life = await store.standing("acme", missing.counters)
            assert isinstance(life, CountersMissing)
            assert await store.install("acme", life.incarnation, LedgerPosition(len(self.booked), spent))

    def spent(self, counter: Any) -> Spent:
        mine = [
            s
            for s in self.booked
            if counter.period.start <= s.end_time < counter.period.end
            and counter.scope in {limit.counter.scope for limit in limits(*BUDGETS, principal=s.principal)}
        ]
        return Spent(counter, NanoUsd(sum(s.amount for s in mine)), Tokens(sum(s.tokens for s in mine)))

    async def same(self, method: str, *args: Any, **options: Any) -> Any:
        first, second = [await getattr(store, method)(*args, **options) for store in self.both]
        assert _plain(first) == _plain(second), (method, args)
        return first


def _plain(answer: Any) -> Any:
    return replace(answer, incarnation="") if isinstance(answer, CountersMissing) else answer


@given(steps=st.lists(STEP, min_size=15, max_size=60))
@settings(max_examples=100, deadline=None)
def test_lua_and_model_agree(redis_server: Any, steps: list[tuple[Any, ...]]) -> None:
    async def run() -> None:
        async with Redis.from_url(redis_server.url) as redis:
            await redis.flushall()
            clock, books = VirtualClock(), Books()
            real = RedisReservations(redis, clock=clock, lapse=lambda: books.lapse)
            twins = Twins(ModelReservations(clock, lambda: books.lapse), real, clock, books)
            for step in steps:
                await twins.do(step)

    asyncio.run(run())
