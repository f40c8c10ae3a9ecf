"""What the gateway's ports promise: the parts in memory and the adapters over gRPC pass the same tests."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farthing_gateway.adapters.accounting import GrpcAccounting
from farthing_gateway.adapters.cache import GrpcCache, Timeouts
from farthing_gateway.adapters.classifier import GrpcClassifier
from farthing_gateway.adapters.inference import GrpcPools
from farthing_gateway.adapters.scheduler import GrpcScheduler
from farthing_gateway.domain.attempt import Attempt
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.catalogue import catalogue
from farthing_gateway.domain.judge import Judged, Opinion
from farthing_gateway.domain.model import FinishReason, Role, Task, Tier
from farthing_gateway.domain.policy import OutageMode
from farthing_gateway.domain.prompt import Message, Sampling
from farthing_gateway.domain.similar import Meaning, Terms
from farthing_gateway.ports import (
    Admission,
    AnswerCache,
    Chunk,
    Classifier,
    Finished,
    FlightLine,
    Found,
    Job,
    Judge,
    Kept,
    KeyAuthority,
    Lead,
    Piece,
    Pools,
    Prices,
    Scheduler,
    Started,
    Wanted,
    Whole,
)
from farthing_kit.clock import SystemClock
from farthing_kit.context import Principal, RequestContext, use_context
from farthing_kit.context import Role as Caller
from farthing_kit.errors import FarthingError, NotFound, Unauthenticated, Unavailable
from farthing_kit.money import cost
from farthing_kit.testing.server import serving
from farthing_kit.usage import TokenUsage
from services.gateway.tests.fakes import (
    FakeAdmission,
    FakeCache,
    FakeClassifier,
    FakeJudge,
    FakeKeys,
    FakePools,
    FakePrices,
    FakeScheduler,
    quote_of,
)
from services.gateway.tests.peers import Script, services
from services.gateway.tests.values import MODELS, PRICES, USAGE, answer

KEY = CacheKey(b"c" * 32, b"p" * 32)
HOUR = timedelta(hours=1)
QUESTION = (Message(Role.USER, "What is the capital of France?"),)
ATTEMPT = Attempt("q_1", "a_1", datetime(2026, 11, 28, tzinfo=UTC))
JOB = Job(
    "small", QUESTION, Sampling(64, 0.0, 1.0, 0, ()), "r_1", quote_of("small"), Tier.SMALL, Task.CHAT, {}, ATTEMPT
)


@dataclass
class Ports:
    """One implementation of each port, and how to break them all."""

    keys: KeyAuthority
    cache: AnswerCache
    line: FlightLine
    classifier: Classifier
    judge: Judge
    admission: Admission
    scheduler: Scheduler
    pools: Pools
    prices: Prices
    script: Script | None = None

    def invalidate(self) -> None:
        """What is under way now is not for who asks later."""
        if self.script is not None:
            self.script.mark += 1
        else:
            assert isinstance(self.cache, FakeCache)
            self.cache.mark += 1

    def take_away(self) -> None:
        """From now on nothing answers."""
        error = Unavailable("away")
        if self.script is not None:
            cut = "Authorize Lookup SemanticLookup Store Publish Release Follow ReportOutcome Analyze Judge".split()
            cut += "Reserve Generate ListPools".split()
            self.script.errors |= dict.fromkeys(cut, error)
            return
        parts: list[Any] = [self.keys, self.cache, self.classifier, self.judge, self.admission]
        parts += [self.scheduler, self.pools]
        for part in parts:
            part.error = error


def in_memory() -> Ports:
    cache = FakeCache(SystemClock())
    return Ports(
        FakeKeys(),
        cache,
        cache,
        FakeClassifier(),
        FakeJudge(),
        FakeAdmission(),
        FakeScheduler(),
        FakePools(),
        FakePrices(),
    )


@pytest.fixture(params=["memory", "grpc"])
async def ports(request: pytest.FixtureRequest) -> AsyncIterator[Ports]:
    if request.param == "memory":
        yield in_memory()
        return
    script = Script(sharing=True)
    async with serving(*services(script)) as server, server.channel() as channel:
        books = GrpcAccounting(channel, timeout_s=10.0)
        reader = GrpcClassifier(channel, timeout_s=10.0, judge_timeout_s=10.0)
        cache = GrpcCache(channel, Timeouts(10.0, 10.0, 10.0))
        yield Ports(
            books,
            cache,
            cache,
            reader,
            reader,
            books,
            GrpcScheduler(channel),
            GrpcPools(channel, timeout_s=10.0),
            books,
            script,
        )


@pytest.fixture(autouse=True)
def in_the_name_of_acme() -> object:
    with use_context(of("acme")) as context:
        yield context


def of(org: str) -> RequestContext:
    return RequestContext(f"q_{org}", Principal(org, key_id=f"k_{org}"), Caller.TENANT)


async def test_a_known_key_has_a_principal_a_policy_and_a_time(ports: Ports) -> None:
    grant = await ports.keys.authorize("fk_acme")
    assert grant.principal == Principal("acme", "search", "u1", "k_acme")
    assert (grant.policy.default_tier, grant.policy.max_tier) == (Tier.MEDIUM, Tier.LARGE)
    assert (grant.policy.cache_enabled, grant.policy.cache_time_to_live) == (True, HOUR)
    assert grant.policy.outage_mode is OutageMode.DENY
    assert grant.time_to_live_s == 60.0


async def test_an_unknown_key_is_refused(ports: Ports) -> None:
    with pytest.raises(Unauthenticated):
        await ports.keys.authorize("fk_nobody")


async def test_what_is_stored_is_found_whole(ports: Ports) -> None:
    kept = answer(created_at=datetime.now(UTC))
    missed = await ports.cache.look_up(KEY, Wanted())
    assert missed.answer is None
    await ports.cache.store(KEY, Kept(kept, missed, HOUR))
    found = await ports.cache.look_up(KEY, Wanted())
    assert found.answer == kept
    assert timedelta(0) < found.time_to_live <= HOUR


async def test_an_answer_of_another_epoch_or_organisation_or_age_is_not_found(ports: Ports) -> None:
    old = answer(created_at=datetime.now(UTC) - timedelta(minutes=10))
    epoch = (await ports.cache.look_up(KEY, Wanted())).epoch
    await ports.cache.store(KEY, Kept(old, Found(epoch + 1), HOUR))
    assert (await ports.cache.look_up(KEY, Wanted())).answer is None
    await ports.cache.store(KEY, Kept(old, Found(epoch), HOUR))
    assert (await ports.cache.look_up(KEY, Wanted(timedelta(minutes=5)))).answer is None
    assert (await ports.cache.look_up(KEY, Wanted(timedelta(minutes=15)))).answer == old
    with use_context(of("beta")):
        assert (await ports.cache.look_up(KEY, Wanted())).answer is None


async def claimed(ports: Ports) -> tuple[Found, Found]:
    """What the first says who asks, and what the second."""
    first = await ports.cache.look_up(KEY, Wanted(claim=True))
    return first, await ports.cache.look_up(KEY, Wanted(claim=True))


async def test_the_first_who_claims_leads_and_the_next_follows(ports: Ports) -> None:
    first, second = await claimed(ports)
    assert first.lease
    assert not first.follow
    assert (second.lease, second.follow) == (b"", True)


async def test_who_follows_hears_the_answer_from_its_beginning_to_its_end(ports: Ports) -> None:
    first, second = await claimed(ports)
    whole = answer("", created_at=datetime.now(UTC))
    await ports.line.publish(KEY, first, 0, "Pá", None)
    heard = []
    async with aclosing(ports.line.follow(KEY, second)) as news:
        heard.append(await anext(news))
        await ports.line.publish(KEY, first, 3, "ris.", whole)
        heard += [each async for each in news]
    assert heard == [Piece("Pá"), Piece("ris."), Whole(whole)]


async def test_who_follows_leads_when_the_lease_is_given_up(ports: Ports) -> None:
    first, second = await claimed(ports)
    await ports.line.release(KEY, first)
    [said] = [each async for each in ports.line.follow(KEY, second)]
    assert isinstance(said, Lead)
    assert said.lease not in (b"", first.lease)
    with pytest.raises(NotFound):
        await ports.line.publish(KEY, first, 0, "too late", None)


async def test_who_asks_after_an_invalidation_leads_and_the_old_answer_goes_on_for_its_own(ports: Ports) -> None:
    first, second = await claimed(ports)
    ports.invalidate()
    anew, after = await claimed(ports)
    assert anew.lease
    assert after.follow
    await ports.line.publish(KEY, first, 0, "old", None)
    async with aclosing(ports.line.follow(KEY, second)) as news:
        assert await anext(news) == Piece("old")
    await ports.line.release(KEY, anew)
    [said] = [each async for each in ports.line.follow(KEY, after)]
    assert isinstance(said, Lead)


async def test_nobody_to_follow_is_not_found(ports: Ports) -> None:
    with pytest.raises(NotFound):
        await anext(ports.line.follow(CacheKey(b"x" * 32, b"y" * 32), Found(1)))


async def test_a_moment_is_told_without_an_answer(ports: Ports) -> None:
    found = await ports.cache.look_up(KEY, Wanted())
    await ports.cache.store(KEY, Kept(answer(created_at=datetime.now(UTC)), found, HOUR))
    assert (await ports.cache.look_up(KEY, Wanted(moment_only=True))).answer is None


async def test_a_search_that_finds_nothing_says_why_and_a_label_is_taken(ports: Ports) -> None:
    meaning = Meaning(bytes(4 * 384), b"e" * 32, "What?", has_history=False, truncated=False)
    found = await ports.cache.search(KEY, meaning, Terms(Task.CHAT, Tier.SMALL, 0.02, HOUR, 0.9))
    assert (found.answer, found.served, found.missed) == (None, False, "no_candidate")
    await ports.cache.report(b"receipt", right=True)


async def test_an_analysis_has_everything_that_routing_needs(ports: Ports) -> None:
    analysis = await ports.classifier.analyze(QUESTION, embedding=False)
    assert analysis.complexity == pytest.approx(0.1)
    assert analysis.task is Task.QUESTION_ANSWERING
    assert (analysis.expected_output_tokens, analysis.prompt_tokens) == (20, 9)
    assert [outlook.tier for outlook in analysis.outlooks] == [Tier.SMALL, Tier.MEDIUM, Tier.LARGE]
    assert [outlook.success for outlook in analysis.outlooks] == [0.9, 0.95, 0.98]
    assert analysis.outlooks[0].gain == pytest.approx(0.05)


async def test_an_opinion_has_a_probability_and_what_was_found(ports: Ports) -> None:
    opinion = await ports.judge.judge(Judged(QUESTION, "2 + 2 = 4", FinishReason.STOP, Tier.SMALL))
    assert opinion == Opinion(0.9, ("ARITHMETIC_HOLDS",), "j1")


async def test_a_reservation_holds_the_estimate_at_the_quoted_prices(ports: Ports) -> None:
    bound = TokenUsage(fresh_input=50, output=64)
    held = await ports.admission.reserve("r_1", "small", bound, 90.0)
    assert held.reservation_id == "r_1"
    assert held.quote == quote_of("small")
    assert held.amount == cost(bound, held.quote.prices)
    assert await ports.admission.reserve("r_1", "small", bound, 90.0) == held
    await ports.admission.release("r_1")
    await ports.admission.release("r_1")


async def test_a_generation_starts_tells_and_finishes(ports: Ports) -> None:
    told = [step async for step in ports.scheduler.generate(JOB)]
    assert told[0] == Started("cpu-local", "INT4")
    assert "".join(step.text for step in told if isinstance(step, Chunk)).endswith("Paris.")
    assert told[-1] == Finished(FinishReason.STOP, USAGE)


async def test_a_generation_can_be_left(ports: Ports) -> None:
    async with aclosing(ports.scheduler.generate(JOB)) as told:
        async for _ in told:
            break


async def test_models_and_prices_make_a_catalogue(ports: Ports) -> None:
    assert catalogue(await ports.pools.list_models(), await ports.prices.list_prices()) == catalogue(MODELS, PRICES)


async def test_absence_is_an_error_that_says_so(ports: Ports) -> None:
    ports.take_away()
    epoch_of_nothing = 1
    calls = [
        ports.keys.authorize("fk_acme"),
        ports.cache.look_up(KEY, Wanted()),
        ports.cache.store(KEY, Kept(answer(), Found(epoch_of_nothing), HOUR)),
        ports.cache.report(b"receipt", right=True),
        ports.line.release(KEY, Found(1)),
        anext(ports.line.follow(KEY, Found(1))),
        ports.classifier.analyze(QUESTION, embedding=False),
        ports.judge.judge(Judged(QUESTION, "Paris.", FinishReason.STOP, Tier.SMALL)),
        ports.admission.reserve("r_2", "small", USAGE, 90.0),
        ports.admission.release("r_2"),
        anext(ports.scheduler.generate(JOB)),
        ports.pools.list_models(),
    ]
    for call in calls:
        with pytest.raises(FarthingError) as error:
            await call
        assert error.value.reason == Unavailable.reason
