"""The whole service over a real Redis and a real NATS, through gRPC."""

import asyncio
import math
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from nats.aio.client import Client
from nats.aio.msg import Msg

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import CacheLevel, FinishReason, Tier
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_cache.adapters.announcer import NatsAnnouncer
from farthing_cache.config import CacheSettings
from farthing_cache.domain.answer import Org
from farthing_cache.main import build
from farthing_kit import nats
from farthing_kit.context import RequestContext
from farthing_kit.errors import FarthingError
from farthing_kit.hearing import LEASE_S
from farthing_kit.telemetry import MetricName
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.server import RunningProcess, operator_context, running, tenant_context
from farthing_kit.testing.settings import settings
from farthing_kit.testing.waiting import until

KEY = pb.CacheKey(compatibility_digest=b"c" * 32, prompt_digest=b"p" * 32)
Service = RunningProcess[CacheSettings]
Reason = ErrorReason


def answer(text: str = "forty-two") -> pb.CachedAnswer:
    made = pb.CachedAnswer(
        text=text,
        finish_reason=FinishReason.FINISH_REASON_STOP,
        usage=TokenUsage(fresh_input_tokens=7, output_tokens=3),
        tier=Tier.TIER_SMALL,
        model="small",
        quantization="INT4",
    )
    made.create_time.GetCurrentTime()
    return made


@pytest.fixture
async def service(redis_url: str, nats_url: str) -> AsyncIterator[Service]:
    made = settings(CacheSettings, redis_url=redis_url, nats_url=nats_url, redis_timeout_ms=2000, watch_pause_ms=20)
    async with running("cache", made, build) as process:
        yield process


@pytest.fixture
async def stub(service: Service) -> AsyncIterator[CacheServiceStub]:
    async with service.channel(tenant_context("acme")) as channel:
        yield CacheServiceStub(channel)


def stub_of(service: Service, context: RequestContext) -> CacheServiceStub:
    return CacheServiceStub(service.channel(context))


async def keep(stub: CacheServiceStub, text: str = "forty-two") -> pb.StoreResponse:
    epoch = (await stub.Lookup(pb.LookupRequest(key=KEY))).epoch
    return await stub.Store(pb.StoreRequest(key=KEY, answer=answer(text), epoch=epoch))


async def refused(call: object, reason: ErrorReason.ValueType) -> FarthingError:
    with pytest.raises(FarthingError) as error:
        await call  # type: ignore[misc]
    assert error.value.reason == reason, error.value
    return error.value


async def test_an_answer_is_stored_found_and_counted(service: Service, stub: CacheServiceStub) -> None:
    assert (await stub.Lookup(pb.LookupRequest(key=KEY))).level == CacheLevel.CACHE_LEVEL_NONE
    assert (await keep(stub)).stored
    found = await stub.Lookup(pb.LookupRequest(key=KEY))
    assert found.level == CacheLevel.CACHE_LEVEL_EXACT
    assert found.answer.text == "forty-two"
    assert found.answer.usage == TokenUsage(fresh_input_tokens=7, output_tokens=3)
    assert timedelta(hours=21) < found.time_to_live.ToTimedelta() <= timedelta(hours=24)
    stats = await stub.GetStats(pb.GetStatsRequest())
    assert (stats.hits, stats.misses, stats.stores) == (1, 2, 1)
    metrics = service.process.telemetry.metrics
    assert metrics.value(MetricName.CACHE_LOOKUPS, result="hit") == 1


async def test_a_requested_life_is_kept_and_clamped(stub: CacheServiceStub) -> None:
    request = pb.StoreRequest(key=KEY, answer=answer(), epoch=(await stub.Lookup(pb.LookupRequest(key=KEY))).epoch)
    for asked, limit in ((timedelta(minutes=1), timedelta(minutes=1)), (timedelta(days=9), timedelta(days=1))):
        request.time_to_live.FromTimedelta(asked)
        await stub.Store(request)
        left = (await stub.Lookup(pb.LookupRequest(key=KEY))).time_to_live.ToTimedelta()
        assert limit * 0.85 < left <= limit


async def test_max_age_refuses_older_answers(stub: CacheServiceStub) -> None:
    old = answer()
    old.create_time.seconds -= 60
    epoch = (await stub.Lookup(pb.LookupRequest(key=KEY))).epoch
    await stub.Store(pb.StoreRequest(key=KEY, answer=old, epoch=epoch))
    request = pb.LookupRequest(key=KEY)
    request.max_age.FromTimedelta(timedelta(seconds=59))
    assert (await stub.Lookup(request)).level == CacheLevel.CACHE_LEVEL_NONE
    request.max_age.FromTimedelta(timedelta(seconds=90))
    assert (await stub.Lookup(request)).level == CacheLevel.CACHE_LEVEL_EXACT


async def test_another_tenant_finds_nothing(service: Service, stub: CacheServiceStub) -> None:
    await keep(stub)
    other = stub_of(service, tenant_context("beta"))
    assert (await other.Lookup(pb.LookupRequest(key=KEY))).level == CacheLevel.CACHE_LEVEL_NONE


async def test_an_invalidation_forgets_and_is_announced(
    service: Service, stub: CacheServiceStub, nats_url: str
) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def hear(message: Msg) -> None:
        heard.put_nowait(message.data)

    listener = Client()
    await listener.connect(nats_url)
    await listener.subscribe("farthing.invalidate.cache", cb=hear)
    await listener.flush()
    await keep(stub)
    before = (await stub.Lookup(pb.LookupRequest(key=KEY))).epoch
    first = await stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1"))
    assert first.epoch > before
    assert (await stub.Lookup(pb.LookupRequest(key=KEY))).level == CacheLevel.CACHE_LEVEL_NONE
    assert await stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1")) == first
    assert [await asyncio.wait_for(heard.get(), 5) for _ in range(2)] == [b"org:acme"] * 2
    await listener.close()


async def test_an_invalidation_is_over_only_when_no_gateway_may_serve_what_it_had(
    nats_url: str, clock: VirtualClock
) -> None:
    async with nats.connect(nats_url, name="test") as client:
        telling = asyncio.create_task(NatsAnnouncer(client, clock).forgotten(Org("acme")))
        await until(lambda: clock.sleepers == 1)
        await clock.advance(LEASE_S * 0.99)
        assert not telling.done()
        await clock.advance(LEASE_S * 0.01)
        await telling


async def test_an_invalidation_under_a_used_key_with_another_body_is_refused(stub: CacheServiceStub) -> None:
    await stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1", tags=["a", "b"]))
    await stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1", tags=["b", "a"]))  # says the same
    await keep(stub)
    others = [{"tags": ["a"]}, {"tags": ["a", "b"], "model": "small"}, {"model": "small"}, {}]
    for other in others:
        call = stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1", **other))  # type: ignore[arg-type]
        error = await refused(call, Reason.ERROR_REASON_IDEMPOTENCY_MISMATCH)
        assert error.metadata["idempotency_key"] == "i1"
    assert (await stub.Lookup(pb.LookupRequest(key=KEY))).level == CacheLevel.CACHE_LEVEL_EXACT


async def test_an_operator_forgets_for_a_tenant_by_name(service: Service, stub: CacheServiceStub) -> None:
    await keep(stub)
    operator = stub_of(service, operator_context())
    await refused(operator.Invalidate(pb.InvalidateRequest(idempotency_key="i1")), Reason.ERROR_REASON_INVALID_FIELD)
    await operator.Invalidate(pb.InvalidateRequest(idempotency_key="i1", org="acme"))
    assert (await stub.Lookup(pb.LookupRequest(key=KEY))).level == CacheLevel.CACHE_LEVEL_NONE


async def test_a_tenant_may_not_forget_for_another(stub: CacheServiceStub) -> None:
    call = stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1", org="beta"))
    await refused(call, Reason.ERROR_REASON_PERMISSION_DENIED)


@pytest.mark.parametrize("reason", [FinishReason.FINISH_REASON_LENGTH, FinishReason.FINISH_REASON_CANCELLED])
async def test_only_complete_answers_are_kept(stub: CacheServiceStub, reason: FinishReason.ValueType) -> None:
    cut = answer()
    cut.finish_reason = reason
    error = await refused(stub.Store(pb.StoreRequest(key=KEY, answer=cut)), Reason.ERROR_REASON_INVALID_FIELD)
    assert [violation.field for violation in error.fields] == ["answer.finish_reason"]


async def test_every_wrong_field_is_named(stub: CacheServiceStub) -> None:
    error = await refused(
        stub.Store(pb.StoreRequest(key=KEY, answer=pb.CachedAnswer())), Reason.ERROR_REASON_INVALID_FIELD
    )
    wrong = {"answer.finish_reason", "answer.text", "answer.model"}
    assert {violation.field for violation in error.fields} == wrong
    short = pb.CacheKey(compatibility_digest=b"c" * 31)
    error = await refused(stub.Lookup(pb.LookupRequest(key=short)), Reason.ERROR_REASON_INVALID_FIELD)
    assert error.metadata["fields"] == "key.compatibility_digest,key.prompt_digest"


@pytest.mark.parametrize("seconds", [2**62, -(2**63), 10**15, 0, -1])
async def test_a_span_that_is_none_is_refused(stub: CacheServiceStub, seconds: int) -> None:
    span = Duration(seconds=seconds)
    calls = (
        stub.Lookup(pb.LookupRequest(key=KEY, max_age=span)),
        stub.Store(pb.StoreRequest(key=KEY, answer=answer(), time_to_live=span)),
        stub.Analyze(pb.AnalyzeRequest(window=span)),
        stub.Analyze(pb.AnalyzeRequest(lives=[span])),
    )
    for call in calls:
        await refused(call, Reason.ERROR_REASON_INVALID_FIELD)
    if abs(seconds) > 1:
        await refused(
            stub.Store(pb.StoreRequest(key=KEY, answer=answer(), took=span)), Reason.ERROR_REASON_INVALID_FIELD
        )
        dated = answer()
        dated.create_time.seconds = seconds
        await refused(stub.Store(pb.StoreRequest(key=KEY, answer=dated)), Reason.ERROR_REASON_INVALID_FIELD)


@pytest.mark.parametrize("threshold", [math.nan, math.inf, -0.1, 1.1])
async def test_a_threshold_is_0_to_1(stub: CacheServiceStub, threshold: float) -> None:
    error = await refused(stub.Analyze(pb.AnalyzeRequest(thresholds=[threshold])), Reason.ERROR_REASON_INVALID_FIELD)
    assert error.metadata["fields"] == "thresholds"


@pytest.mark.parametrize("tags", [["a"] * 9, [""], ["x" * 65], ["a\nb"], ["\u202e"], [" "]])
async def test_tags_are_labels(stub: CacheServiceStub, tags: list[str]) -> None:
    invalidate = stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1", tags=tags))
    for call in (invalidate, stub.Store(pb.StoreRequest(key=KEY, answer=answer(), tags=tags))):
        error = await refused(call, Reason.ERROR_REASON_INVALID_FIELD)
        assert error.metadata["fields"] == "tags"


async def test_an_answer_over_the_limit_is_refused(stub: CacheServiceStub) -> None:
    call = stub.Store(pb.StoreRequest(key=KEY, answer=answer("x" * (256 * 1024 + 1))))
    await refused(call, Reason.ERROR_REASON_PROMPT_TOO_LARGE)


@pytest.mark.parametrize("key", ["", "x" * 129])
async def test_an_invalidation_needs_a_key_of_its_own(stub: CacheServiceStub, key: str) -> None:
    await refused(stub.Invalidate(pb.InvalidateRequest(idempotency_key=key)), Reason.ERROR_REASON_INVALID_FIELD)


async def test_without_a_context_nobody_gets_in(service: Service) -> None:
    async with service.channel(signer=None) as channel:
        call = CacheServiceStub(channel).Lookup(pb.LookupRequest(key=KEY))
        await refused(call, Reason.ERROR_REASON_CONTEXT_INVALID)


async def test_a_redis_that_is_away_is_said_and_health_follows(nats_url: str) -> None:
    made = settings(CacheSettings, redis_url="redis://127.0.0.1:1/0", nats_url=nats_url, watch_pause_ms=20)
    async with running("cache", made, build) as service, service.channel() as channel:
        error = await refused(
            CacheServiceStub(channel).Lookup(pb.LookupRequest(key=KEY)), Reason.ERROR_REASON_STORE_UNAVAILABLE
        )
        assert error.retry_after_s is not None
        health: Any = HealthStub(channel)
        async for state in health.Watch(HealthCheckRequest(), timeout=5):
            if state.status == HealthCheckResponse.NOT_SERVING:
                break
