"""Parts that are down: a clear error or a declared degradation, and nothing lost."""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import pytest
import pytest_asyncio

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli import report
from farthing_cli.generation import Gateway
from farthing_kit.client import channel
from farthing_kit.errors import FarthingError
from tests.support.load import Load
from tests.support.mesh import BOOKED_WITHIN_S, REDIS_OF, MeshUnderTest, prompt
from tests.support.outages import OUTAGES, WITH_REDIS, Outage

AWAY_REQUESTS = 6
HITS_BACK_WITHIN_S = 10.0
POLL_S = 0.1
QUESTIONS = 8

# In the loop of the mesh: the proxies live there.


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def frail(servers_dir: Path) -> AsyncIterator[MeshUnderTest]:
    """A mesh of this module's own: its parts are stopped and started."""
    async with MeshUnderTest(servers_dir / "frail", far_from_redis=WITH_REDIS) as running:
        yield running


def degraded_parts(decision: pb.Decision) -> set[int]:
    return {each.part for each in decision.degradations}


async def refusal(mesh: MeshUnderTest, asked: pb.Prompt, org: str = "lantern") -> FarthingError:
    gateway = await mesh.gateway(org)
    with pytest.raises(FarthingError) as caught:
        await gateway.ask(asked)
    return caught.value


async def recovers(mesh: MeshUnderTest, text: str) -> None:
    """The mesh answers again as if nothing had been."""
    answer = await (await mesh.gateway()).ask(prompt(text, no_cache=True))
    assert answer.text == text
    assert not degraded_parts(answer.decision)


async def test_triton_down_is_said_and_nothing_is_charged(frail: MeshUnderTest) -> None:
    await frail.kill("triton")
    error = await refusal(frail, prompt("triton is down", no_cache=True))
    assert error.reason == ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE
    await frail.start("triton")
    await frail.until_answers(prompt("triton is back", no_cache=True))
    await recovers(frail, "triton is back for good")


async def test_the_classifier_down_means_the_default_tier(frail: MeshUnderTest) -> None:
    await frail.kill("classifier")
    answer = await (await frail.gateway()).ask(prompt("no classifier", no_cache=True))
    await frail.start("classifier")
    assert answer.text == "no classifier"
    await frail.until_answers(prompt("classifier is back", no_cache=True))


async def test_the_cache_down_is_a_miss_and_declared(frail: MeshUnderTest) -> None:
    await frail.kill("cache")
    answer = await (await frail.gateway()).ask(prompt("no cache service"))
    await frail.start("cache")
    assert answer.text == "no cache service"
    assert pb.Degradation.PART_CACHE in degraded_parts(answer.decision)


async def test_redis_down_follows_the_declared_mode_of_each_tenant(frail: MeshUnderTest) -> None:
    for org in ("lantern", "abacus", "foundry"):  # keys are known to the gateway, as in any outage of a busy mesh
        await (await frail.gateway(org)).ask(prompt("before the outage", no_cache=True))
    for redis in REDIS_OF.values():
        await frail.kill(redis)
    grace = await (await frail.gateway("lantern")).ask(prompt("redis is down for lantern"))
    allowed = await (await frail.gateway("foundry")).ask(prompt("redis is down for foundry"))
    denied = await refusal(frail, prompt("redis is down for abacus"), "abacus")
    for redis in REDIS_OF.values():
        await frail.start(redis)
    assert {pb.Degradation.PART_CACHE, pb.Degradation.PART_ACCOUNTING} <= degraded_parts(grace.decision)
    assert pb.Degradation.PART_ACCOUNTING in degraded_parts(allowed.decision)
    assert denied.reason == ErrorReason.ERROR_REASON_ACCOUNTING_UNAVAILABLE
    await frail.booked_request(grace.decision.request_id)
    await frail.booked_request(allowed.decision.request_id)


@pytest.mark.parametrize("way", ["killed", "paused"])
async def test_redis_away_fails_no_request_and_hits_come_back(frail: MeshUnderTest, way: str) -> None:
    """For a tenant whose policy lets it go on without accounting."""
    gateway, outage = await frail.gateway("foundry"), Outage(way)
    known = prompt(f"kept before redis was {way}")
    # Read, and kept nowhere: what is seen is the cache service, not the memory of the gateway.
    known.cache_control.max_age.FromSeconds(3600)
    await gateway.ask(known)
    await outage.begin(frail)
    texts = [f"{way} {number}" for number in range(AWAY_REQUESTS)]
    answers = [await gateway.ask(prompt(text)) for text in texts]
    await outage.end(frail)
    assert [answer.text for answer in answers] == texts
    assert all(pb.Degradation.PART_CACHE in degraded_parts(answer.decision) for answer in answers)
    await frail.until_answers(prompt(f"redis was {way}", no_cache=True), "foundry")
    async with asyncio.timeout(HITS_BACK_WITHIN_S):
        while not await hits_again(frail, f"again after {way}"):
            await asyncio.sleep(POLL_S)


@pytest.mark.parametrize("way", ["killed", "paused"])
async def test_the_redis_of_the_cache_is_no_matter_of_money(frail: MeshUnderTest, way: str) -> None:
    """Also for a tenant that nothing is lent to: what kills or hangs the one has nothing to do with the other."""
    gateway = await frail.gateway("abacus")
    if way == "killed":
        await frail.kill(REDIS_OF["cache"])
    else:
        frail.pause(REDIS_OF["cache"])
    answer = await gateway.ask(prompt(f"the cache's redis was {way}"))
    if way == "killed":
        await frail.start(REDIS_OF["cache"])
    else:
        frail.go_on(REDIS_OF["cache"])
    assert degraded_parts(answer.decision) == {pb.Degradation.PART_CACHE}
    assert answer.decision.reservation_id
    await frail.until_answers(prompt(f"after it was {way}", no_cache=True), "abacus")


async def hits_again(mesh: MeshUnderTest, text: str) -> bool:
    """Whether the cache service serves what it was just given."""
    gateway = await mesh.gateway("foundry")
    await gateway.ask(prompt(text))
    probe = prompt(text)
    probe.cache_control.no_store = True
    answer = await gateway.ask(probe)
    return answer.decision.cache_level != model_pb2.CACHE_LEVEL_NONE and not degraded_parts(answer.decision)


@pytest.mark.parametrize("outage", OUTAGES, ids=lambda outage: outage.way)
async def test_redis_away_under_load_fails_no_request_and_hits_come_back(frail: MeshUnderTest, outage: Outage) -> None:
    """Repeated questions, steadily, to a gateway without a memory of its own: every hit is one of Redis."""
    async with frail.another("gateway", FARTHING_GATEWAY_NEAR_CACHE_BYTES="0") as address, channel(address) as opened:
        gateway = Gateway(opened, frail.client.api_key(outage.org), 30.0)
        load = Load(gateway, [f"{outage.way}, question {number}" for number in range(QUESTIONS)])
        async with load.running():
            await within(BOOKED_WITHIN_S, load.hits_again())
            await outage.begin(frail)
            await within(BOOKED_WITHIN_S, load.more(2 * QUESTIONS))
            assert not any(one.hit for one in load.asked[-QUESTIONS:])
            await outage.end(frail)
            await within(HITS_BACK_WITHIN_S, load.hits_again())
        assert load.faults == []


async def test_who_follows_an_answer_when_the_cache_loses_redis_gets_all_of_it(frail: MeshUnderTest) -> None:
    gateway = await frail.gateway()
    text = " ".join(f"word{number}" for number in range(40))
    asked = prompt(text, model="echo-slow", max_tokens=256)
    led, followed = asyncio.Event(), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        lead = group.create_task(gateway.ask(asked, lambda _: led.set()))
        await within(BOOKED_WITHIN_S, led.wait())
        follow = group.create_task(gateway.ask(asked, lambda _: followed.set()))
        await within(BOOKED_WITHIN_S, followed.wait())
        frail.to_redis["cache"].partition()
    frail.to_redis["cache"].heal()
    assert (lead.result().text, follow.result().text) == (text, text)
    await frail.until_answers(prompt("the cache has redis again", no_cache=True))


async def within(limit_s: float, wait: Awaitable[object]) -> None:
    async with asyncio.timeout(limit_s):
        await wait


async def test_accounting_down_loses_no_usage(frail: MeshUnderTest) -> None:
    await (await frail.gateway("foundry")).ask(prompt("foundry is known", no_cache=True))
    await frail.kill("accounting")
    answer = await (await frail.gateway("foundry")).ask(prompt("served without accounting", no_cache=True))
    await frail.start("accounting")
    assert pb.Degradation.PART_ACCOUNTING in degraded_parts(answer.decision)
    await frail.booked_request(answer.decision.request_id)


async def test_nats_down_is_said_cached_answers_go_on_and_their_usage_is_booked_later(frail: MeshUnderTest) -> None:
    gateway = await frail.gateway()
    await gateway.ask(prompt("cached before nats went"))
    await frail.kill("nats")
    hit = await gateway.ask(prompt("cached before nats went"))
    error = await refusal(frail, prompt("new while nats is down", no_cache=True))
    await frail.start("nats")
    # Not from memory: while NATS is away nobody could tell it that the answer was invalidated.
    assert hit.decision.cache_level == model_pb2.CACHE_LEVEL_EXACT
    assert error.reason in (ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE, ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE)
    await frail.until_answers(prompt("nats is back", no_cache=True))
    await frail.booked_request(hit.decision.request_id)


async def test_the_scheduler_down_is_said(frail: MeshUnderTest) -> None:
    await frail.kill("scheduler")
    error = await refusal(frail, prompt("no scheduler", no_cache=True))
    await frail.start("scheduler")
    assert error.reason in (ErrorReason.ERROR_REASON_QUEUE_UNAVAILABLE, ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE)
    await frail.until_answers(prompt("scheduler is back", no_cache=True))


@pytest.mark.parametrize("service", ["gateway", "scheduler", "inference", "accounting", "cache", "classifier"])
async def test_a_service_that_was_killed_comes_back_alone(frail: MeshUnderTest, service: str) -> None:
    await frail.kill(service)
    await frail.start(service)
    await frail.until_answers(prompt(f"{service} came back", no_cache=True))


async def test_postgres_down_delays_the_books_and_loses_nothing(frail: MeshUnderTest) -> None:
    await frail.until_answers(prompt("postgres is still there", no_cache=True), "foundry")
    await frail.kill("postgres")
    answer = await (await frail.gateway("foundry")).ask(prompt("postgres is down", no_cache=True))
    await frail.start("postgres")
    await frail.booked_request(answer.decision.request_id)


async def test_after_all_of_it_the_books_add_up(frail: MeshUnderTest) -> None:
    books = await report.verify(frail.client)
    assert not books.violations
    assert books.ledger_total.nano_units == books.usage_total.nano_units
