"""One model call for all who ask the same at once, over several replicas and a real Redis."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel, FinishReason
from farthing_cache.config import CacheSettings
from farthing_cache.main import build
from farthing_kit.errors import NotFound, Overloaded, StoreUnavailable
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import running, tenant_context
from farthing_kit.testing.settings import settings
from farthing_kit.testing.waiting import until
from services.cache.tests.caller import Caller, provenance

KEY = pb.CacheKey(compatibility_digest=b"c" * 32, prompt_digest=b"p" * 32)
PIECES = ["The ", "answer ", "is ☃ ", "42."]
WHOLE = "".join(PIECES)
SHORT_LEASE = timedelta(milliseconds=400)


@pytest.fixture
async def stubs(request: pytest.FixtureRequest, redis_url: str, nats_url: str) -> AsyncIterator[list[CacheServiceStub]]:
    """Three replicas over one Redis; a parameter is the life of leases."""
    lease = getattr(request, "param", SHORT_LEASE)
    async with AsyncExitStack() as stack:
        made = settings(CacheSettings, redis_url=redis_url, nats_url=nats_url, redis_timeout_ms=5000, lease=lease)
        replicas = [await stack.enter_async_context(running("cache", made, build)) for _ in range(3)]
        channels = [await stack.enter_async_context(one.channel(tenant_context("acme"))) for one in replicas]
        yield [CacheServiceStub(one) for one in channels]


class Upstream:
    """A model that counts its calls. A gate lets a call go on; a call that is cut off never does."""

    def __init__(self) -> None:
        self.calls = 0
        self.gate = asyncio.Event()

    async def __call__(self) -> AsyncIterator[str]:
        self.calls += 1
        yield PIECES[0]
        await self.gate.wait()
        for piece in PIECES[1:]:
            yield piece


async def claim(stub: CacheServiceStub) -> pb.LookupResponse:
    return await stub.Lookup(pb.LookupRequest(key=KEY, claim=True))


async def publish(stub: CacheServiceStub, led: pb.LookupResponse, offset: int, text: str = "", **more: object) -> None:
    request = pb.PublishRequest(
        key=KEY, epoch=led.epoch, mark=led.mark, lease=led.flight.lease, offset_bytes=offset, text=text
    )
    if "finished" in more:
        request.finished.CopyFrom(more["finished"])  # type: ignore[arg-type]
    await stub.Publish(request)


def stored(led: pb.LookupResponse, answer: pb.CachedAnswer, **more: object) -> pb.StoreRequest:
    return pb.StoreRequest(key=KEY, answer=answer, epoch=led.epoch, mark=led.mark, lease=led.flight.lease, **more)  # type: ignore[arg-type]


def released(led: pb.LookupResponse, lease: bytes, reason: str = "") -> pb.ReleaseRequest:
    return pb.ReleaseRequest(key=KEY, epoch=led.epoch, mark=led.mark, lease=lease, reason=reason)


def at(found: pb.LookupResponse) -> pb.FollowRequest:
    """The answer that was being made at the moment of a look-up."""
    return pb.FollowRequest(key=KEY, epoch=found.epoch, mark=found.mark)


async def follow(stub: CacheServiceStub, found: pb.LookupResponse) -> tuple[str, pb.FollowResponse]:
    """The text, and the last event."""
    text, last = "", pb.FollowResponse()
    async for event in stub.Follow(at(found), timeout=20):
        text += event.text
        last = event
    return text, last


async def stats(stubs: list[CacheServiceStub], name: str) -> int:
    return sum([getattr(await stub.GetStats(pb.GetStatsRequest()), name) for stub in stubs])


async def all_asked(stubs: list[CacheServiceStub], count: int) -> bool:
    return await stats(stubs, "flights_led") + await stats(stubs, "flights_followed") == count


@pytest.mark.parametrize("stubs", [timedelta(minutes=1)], indirect=True)
async def test_a_stampede_over_three_replicas_makes_one_call_and_all_get_the_same_bytes(
    stubs: list[CacheServiceStub],
) -> None:
    upstream = Upstream()
    callers = [Caller(stubs[number % 3], upstream) for number in range(200)]
    asked = [asyncio.create_task(caller.ask(KEY)) for caller in callers]
    await until(lambda: all_asked(stubs, 200), timeout_s=60)
    upstream.gate.set()
    assert set(await asyncio.gather(*asked)) == {WHOLE}
    assert upstream.calls == 1


async def test_a_leader_that_dies_is_taken_over_once_and_followers_see_one_stream(
    stubs: list[CacheServiceStub],
) -> None:
    led = await claim(stubs[0])
    assert led.flight.lease
    await publish(stubs[0], led, 0, PIECES[0])
    upstream = Upstream()
    upstream.gate.set()
    callers = [Caller(stubs[number % 3], upstream) for number in range(12)]
    answers = await asyncio.gather(*(caller.ask(KEY) for caller in callers))
    assert set(answers) == {WHOLE}
    assert upstream.calls == 1
    assert await stats(stubs, "takeovers") == 1
    with pytest.raises(NotFound):
        await publish(stubs[0], led, len(PIECES[0]), "too late")


async def test_followers_get_the_stream_from_its_beginning_whenever_they_come(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    offset = 0
    early = asyncio.create_task(follow(stubs[1], led))
    for piece in PIECES[:2]:
        await publish(stubs[0], led, offset, piece)
        offset += len(piece.encode())
    late = asyncio.create_task(follow(stubs[2], led))
    for piece in PIECES[2:]:
        await publish(stubs[0], led, offset, piece)
        offset += len(piece.encode())
    await publish(stubs[0], led, offset, finished=provenance())
    for text, last in (await early, await late):
        assert text == WHOLE
        assert last.finished.usage.output_tokens == 3


async def test_who_comes_between_the_end_and_the_store_follows_and_then_hits(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    await publish(stubs[0], led, 0, WHOLE, finished=provenance())
    between = await claim(stubs[1])
    assert between.HasField("flight")
    assert not between.flight.lease
    assert (await follow(stubs[1], between))[0] == WHOLE
    answer = provenance()
    answer.text = WHOLE
    await stubs[0].Store(stored(led, answer))
    hit = await claim(stubs[2])
    assert hit.level == CacheLevel.CACHE_LEVEL_EXACT
    assert not hit.HasField("flight")


async def test_a_leader_that_only_stores_serves_its_followers_too(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    waiting = asyncio.create_task(follow(stubs[1], led))
    answer = provenance()
    answer.text = WHOLE
    await stubs[0].Store(stored(led, answer))
    assert (await waiting)[0] == WHOLE


async def test_a_lease_given_up_passes_on_at_once_and_a_failure_is_shared(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    waiting = asyncio.create_task(follow(stubs[1], led))
    release = released(led, led.flight.lease)
    assert (await stubs[0].Release(release)).released
    assert not (await stubs[0].Release(release)).released
    lead = (await waiting)[1].lead
    assert lead.lease
    waiting = asyncio.create_task(follow(stubs[2], led))
    failed = released(led, lead.lease, "ERROR_REASON_MODEL_UNAVAILABLE")
    assert (await stubs[1].Release(failed)).released
    assert (await waiting)[1].failed == "ERROR_REASON_MODEL_UNAVAILABLE"


async def test_an_aborted_stream_is_not_kept(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    await publish(stubs[0], led, 0, PIECES[0])
    await stubs[0].Release(released(led, led.flight.lease))
    again = await claim(stubs[1])
    assert not again.HasField("answer")
    assert again.flight.lease


async def test_a_length_stop_reaches_who_waits_and_is_not_kept(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    waiting = asyncio.create_task(follow(stubs[1], led))
    await publish(stubs[0], led, 0, WHOLE, finished=provenance(FinishReason.FINISH_REASON_LENGTH))
    text, last = await waiting
    assert text == WHOLE
    assert last.finished.finish_reason == FinishReason.FINISH_REASON_LENGTH
    found = await stubs[2].Lookup(pb.LookupRequest(key=KEY))
    assert found.level == CacheLevel.CACHE_LEVEL_NONE


async def test_a_new_leader_that_says_something_else_is_not_spliced_on(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    await publish(stubs[0], led, 0, PIECES[0])
    seen: list[str] = []

    async def watch() -> None:
        async for event in stubs[1].Follow(at(led), timeout=20):
            seen.append(event.text)

    watching = asyncio.create_task(watch())
    await until(lambda: seen == [PIECES[0]])
    other = asyncio.create_task(follow(stubs[2], led))
    await stubs[0].Release(released(led, led.flight.lease))
    done, _ = await asyncio.wait({watching, other}, return_when=asyncio.FIRST_COMPLETED)
    if watching in done:  # the one that was watching leads now: nobody is left who was sent anything
        return
    lease = other.result()[1].lead.lease
    await stubs[2].Publish(
        pb.PublishRequest(key=KEY, epoch=led.epoch, mark=led.mark, lease=lease, text="Something else.")
    )
    with pytest.raises(NotFound):
        await watching
    assert seen == [PIECES[0]]


async def test_a_repeated_piece_adds_nothing(stubs: list[CacheServiceStub]) -> None:
    led = await claim(stubs[0])
    for _ in range(2):
        await publish(stubs[0], led, 0, PIECES[0])
    await publish(stubs[0], led, 0, WHOLE, finished=provenance())
    assert (await follow(stubs[1], led))[0] == WHOLE


EXTENTS = [
    pb.InvalidateRequest(idempotency_key="i1"),
    pb.InvalidateRequest(idempotency_key="i1", tags=["docs"]),
    pb.InvalidateRequest(idempotency_key="i1", model="small"),
]


@pytest.mark.parametrize("forget", EXTENTS, ids=["all", "tag", "model"])
@pytest.mark.parametrize("stubs", [timedelta(minutes=1)], indirect=True)
async def test_who_asks_after_an_invalidation_never_follows_what_was_begun_before(
    stubs: list[CacheServiceStub], forget: pb.InvalidateRequest
) -> None:
    led = await claim(stubs[0])
    await publish(stubs[0], led, 0, PIECES[0])
    before = asyncio.create_task(follow(stubs[2], led))
    await stubs[0].Invalidate(forget)
    anew = await claim(stubs[1])
    assert (anew.epoch, anew.mark) > (led.epoch, led.mark)
    assert anew.flight.lease
    # The old answer ends for those who asked before, and for nobody else: neither as it is made, nor after its end.
    answer = provenance()
    answer.text = WHOLE
    kept = await stubs[0].Store(stored(led, answer, tags=["docs"]))
    assert not kept.stored
    assert (await before)[0] == WHOLE
    later = await claim(stubs[1])
    assert not later.HasField("answer")
    assert later.HasField("flight")
    answer.text = "another answer"
    await stubs[1].Store(stored(anew, answer, tags=["docs"]))
    assert (await follow(stubs[2], later))[0] == "another answer"
    assert (await claim(stubs[0])).answer.text == "another answer"


async def test_nobody_follows_what_nobody_makes(stubs: list[CacheServiceStub]) -> None:
    found = await stubs[0].Lookup(pb.LookupRequest(key=KEY))
    with pytest.raises(NotFound):
        await follow(stubs[0], found)


async def test_followers_of_another_tenant_find_nothing(redis_url: str, nats_url: str) -> None:
    made = settings(CacheSettings, redis_url=redis_url, nats_url=nats_url, redis_timeout_ms=5000)
    async with (
        running("cache", made, build) as service,
        service.channel(tenant_context("acme")) as mine,
        service.channel(tenant_context("beta")) as theirs,
    ):
        led = await claim(CacheServiceStub(mine))
        with pytest.raises(NotFound):
            await follow(CacheServiceStub(theirs), led)


async def test_followers_are_told_when_redis_goes_away(redis_url: str, nats_url: str) -> None:
    port = int(redis_url.rsplit(":", 1)[1].split("/")[0])
    async with FaultProxy(port) as proxy:
        made = settings(CacheSettings, redis_url=f"redis://{proxy.address}/0", nats_url=nats_url, redis_timeout_ms=2000)
        async with running("cache", made, build) as service, service.channel(tenant_context("acme")) as channel:
            stub = CacheServiceStub(channel)
            led = await claim(stub)
            await publish(stub, led, 0, PIECES[0])
            seen: list[str] = []

            async def watch() -> None:
                async for event in stub.Follow(at(led), timeout=20):
                    seen.append(event.text)

            watching = asyncio.create_task(watch())
            await until(lambda: bool(seen))
            proxy.down()
            with pytest.raises(StoreUnavailable):
                await watching


async def test_followers_leave_room_for_others(redis_url: str, nats_url: str) -> None:
    made = settings(
        CacheSettings, redis_url=redis_url, nats_url=nats_url, redis_timeout_ms=5000, max_concurrent=8, follow_share=0.5
    )
    async with (
        running("cache", made, build) as service,
        service.channel(tenant_context("acme")) as mine,
        service.channel(tenant_context("beta")) as theirs,
    ):
        acme, beta = CacheServiceStub(mine), CacheServiceStub(theirs)
        led = await claim(acme)
        await publish(acme, led, 0, PIECES[0])
        waiting = [acme.Follow(at(led), timeout=20) for _ in range(2)]
        for call in waiting:
            assert (await anext(aiter(call))).text == PIECES[0]
        with pytest.raises(Overloaded):
            await follow(acme, led)
        other = await claim(beta)  # an organisation that waits for much keeps no other from waiting
        await publish(beta, other, 0, WHOLE, finished=provenance())
        assert (await follow(beta, other))[0] == WHOLE
        waiting.pop().cancel()
        await publish(acme, led, len(PIECES[0]), "".join(PIECES[1:]), finished=provenance())

        async def followed() -> bool:
            try:
                return (await follow(acme, led))[0] == WHOLE
            except Overloaded:
                return False

        await until(followed)
