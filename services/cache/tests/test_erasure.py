"""A tenant that is erased leaves nothing in Redis and nothing in the memory of any replica."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from redis.asyncio import Redis

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.config import CacheSettings
from farthing_cache.domain.answer import Org
from farthing_cache.main import build
from farthing_kit.errors import InvalidArgument, PermissionDenied
from farthing_kit.local.redis import CACHE
from farthing_kit.local.redis import Redis as RedisServer
from farthing_kit.testing.server import RunningProcess, operator_context, running, tenant_context
from farthing_kit.testing.settings import TEST_SECRET, settings
from farthing_kit.testing.waiting import until
from services.cache.tests.caller import provenance
from services.cache.tests.test_semantic_service import ASKED, NEAR, SAME, VECTOR, ask, keep, key

Service = RunningProcess[CacheSettings]
ORGS = ("erasable-tenant", "another-tenant")
CANARY = "canary answer of "


@pytest.fixture
async def replicas(redis_url: str, nats_url: str) -> AsyncIterator[tuple[list[Service], AsyncExitStack]]:
    """Two replicas, and the stack that stops them."""
    made = settings(
        CacheSettings,
        redis_url=redis_url,
        nats_url=nats_url,
        redis_timeout_ms=5000,
        verifier_timeout_ms=5000,
        evidence_pace_ms=20,
        log_pace_ms=20,
    )
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running("cache", made, build)) for _ in range(2)], stack


async def kept_of(raw: Redis, org: str) -> dict[bytes, bytes]:
    names = [name async for name in raw.scan_iter(f"{KeyNames(TEST_SECRET).partition(Org(org))}:*")]
    return {name: await raw.dump(name) or b"" for name in names}


async def use(replicas: list[Service], org: str) -> None:
    """Leave something of every kind: answers, vectors, an answer under way, evidence, labels, records, done calls."""
    for service in replicas:
        stub = CacheServiceStub(service.channel(tenant_context(org)))
        await stub.Invalidate(pb.InvalidateRequest(idempotency_key="i1", tags=["old"]))
        await keep(stub, ASKED, f"{CANARY}{org}", VECTOR)
        found = await ask(stub, SAME, NEAR)
        await stub.ReportOutcome(pb.ReportOutcomeRequest(lookup_id=found.lookup_id, agreement=pb.AGREEMENT_SAME))
        led = await stub.Lookup(pb.LookupRequest(key=key("under way"), claim=True))
        if led.flight.lease:
            request = pb.PublishRequest(key=key("under way"), epoch=led.epoch, mark=led.mark, lease=led.flight.lease)
            request.text = f"{CANARY}{org}"
            await stub.Publish(request)


async def test_an_erased_tenant_leaves_nothing_behind_and_others_keep_everything(
    replicas: tuple[list[Service], AsyncExitStack], redis_url: str
) -> None:
    services, stack = replicas
    operator = CacheServiceStub(services[0].channel(operator_context()))
    async with Redis.from_url(redis_url) as raw:
        for org in ORGS:
            await use(services, org)

            async def written(org: str = org) -> bool:
                ends = {name.rsplit(b":", 2)[-2] for name in await kept_of(raw, org)}
                return {b"evidence"} <= ends and any(name.endswith(b":log") for name in await kept_of(raw, org))

            await until(written)
        others = set(await kept_of(raw, ORGS[1]))
        assert len(await kept_of(raw, ORGS[0])) >= 8
        assert (await operator.Erase(pb.EraseRequest(org=ORGS[0]))).keys >= 8
        assert (await operator.Erase(pb.EraseRequest(org=ORGS[0]))).keys == 0
        await stack.aclose()  # what a replica remembers is written at its end
        assert await kept_of(raw, ORGS[0]) == {}
        assert others <= set(await kept_of(raw, ORGS[1]))
        async for name in raw.scan_iter("*"):
            value = await raw.dump(name) or b""
            assert ORGS[0].encode() not in name + value
        assert any(CANARY.encode() in value for value in (await kept_of(raw, ORGS[1])).values())


async def test_only_an_operator_who_names_a_tenant_erases_it(replicas: tuple[list[Service], AsyncExitStack]) -> None:
    service = replicas[0][0]
    with pytest.raises(PermissionDenied):
        await CacheServiceStub(service.channel(tenant_context("acme"))).Erase(pb.EraseRequest(org="acme"))
    with pytest.raises(InvalidArgument):
        await CacheServiceStub(service.channel(operator_context())).Erase(pb.EraseRequest())


async def test_what_was_erased_leaves_the_file_of_redis_too(tmp_path: Path, nats_url: str) -> None:
    server = await RedisServer(tmp_path / "redis", log=tmp_path / "redis.log", config=CACHE).start()
    try:
        made = settings(CacheSettings, redis_url=server.url, nats_url=nats_url, redis_timeout_ms=5000)
        async with running("cache", made, build) as service:
            stub = CacheServiceStub(service.channel(tenant_context("acme")))
            answer = provenance()
            answer.text = CANARY * 10
            found = await stub.Lookup(pb.LookupRequest(key=key("x")))
            await stub.Store(pb.StoreRequest(key=key("x"), answer=answer, epoch=found.epoch, mark=found.mark))
            files = tmp_path / "redis" / "appendonlydir"
            await until(lambda: in_files(files))
            await CacheServiceStub(service.channel(operator_context())).Erase(pb.EraseRequest(org="acme"))
            await until(lambda: not in_files(files), timeout_s=30.0)
    finally:
        await server.stop()


def in_files(folder: Path) -> bool:
    """Whether the answer is on disk."""
    found = False
    for path in list(folder.iterdir()):
        try:
            found |= CANARY.encode() in path.read_bytes()
        except FileNotFoundError:  # Redis has just replaced it
            return True
    return found
