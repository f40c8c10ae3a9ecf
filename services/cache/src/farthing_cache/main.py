"""The composition root of the cache service."""

from __future__ import annotations

import random
import sys

from farthing.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from farthing_cache.adapters.announcer import NatsAnnouncer
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.meter import PrometheusMeter
from farthing_cache.adapters.redis_store import RedisStore, connect
from farthing_cache.adapters.watch import watch
from farthing_cache.app import AnswerCache
from farthing_cache.config import CacheSettings
from farthing_cache.domain.breaker import Breaker
from farthing_cache.domain.lifetime import Lifetime
from farthing_cache.handler import CacheHandler
from farthing_kit import nats
from farthing_kit.lifecycle import Process, run
from farthing_kit.server import Service

SERVICE = "farthing.cache.v1.CacheService"


async def build(process: Process[CacheSettings]) -> None:
    """Redis, NATS, the use cases, the service."""
    settings = process.settings
    store = await process.enter(_store(process))
    client = await process.enter(nats.connect(settings.nats_url, name="cache", telemetry=process.telemetry))
    cache = AnswerCache(
        store=store,
        announcer=NatsAnnouncer(client),
        meter=PrometheusMeter(process.telemetry.metrics),
        clock=process.clock,
        lifetime=Lifetime(settings.time_to_live, settings.jitter),
        entry_limit_bytes=settings.entry_limit_bytes,
        fraction=random.random,
    )
    process.start("redis watch", watch(store, process.report, process.clock, settings.watch_pause_ms / 1000))
    process.serve(Service(SERVICE, add_CacheServiceServicer_to_server, CacheHandler(cache, process.clock)))


def _store(process: Process[CacheSettings]) -> RedisStore:
    settings = process.settings
    timeout_s = settings.redis_timeout_ms / 1000
    redis = connect(
        settings.redis_url,
        timeout_s=timeout_s,
        max_connections=settings.redis_connections,
        password=settings.redis_password.reveal().decode() if settings.redis_password else None,
    )
    return RedisStore(
        redis,
        KeyNames(settings.mesh_secret.reveal()),
        clock=process.clock,
        breaker=Breaker(settings.breaker_failures, settings.breaker_pause_ms / 1000),
        timeout_s=timeout_s,
        memory_share=settings.memory_share,
    )


def main() -> int:
    """Run until stopped; the exit code."""
    return run("cache", CacheSettings, build)


if __name__ == "__main__":
    sys.exit(main())
