"""The composition root of the cache service."""

from __future__ import annotations

import random
import sys
from dataclasses import dataclass

from farthing.cache.v1.cache_service_pb2_grpc import add_CacheServiceServicer_to_server
from farthing_cache.adapters.announcer import NatsAnnouncer
from farthing_cache.adapters.hearing import hear
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.meter import PrometheusMeter
from farthing_cache.adapters.no_verifier import NoVerifier
from farthing_cache.adapters.onnx_verifier import OnnxVerifier
from farthing_cache.adapters.redis.answers import RedisAnswers
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.eraser import RedisEraser
from farthing_cache.adapters.redis.evidence import RedisEvidence
from farthing_cache.adapters.redis.flights import RedisFlights
from farthing_cache.adapters.redis.hitlog import RedisLog
from farthing_cache.adapters.redis.neighbours import RedisNeighbours
from farthing_cache.adapters.redis.vector_sets import NoVectorSets, VectorSets
from farthing_cache.adapters.watch import watch
from farthing_cache.app.analysis import Analyst
from farthing_cache.app.answers import AnswerCache
from farthing_cache.app.erasure import Erasure
from farthing_cache.app.evidence import Evidence
from farthing_cache.app.flights import Flights
from farthing_cache.app.neighbourhood import Neighbourhood
from farthing_cache.app.recorder import Recorder
from farthing_cache.app.semantic import Limits, SemanticCache
from farthing_cache.config import CacheSettings
from farthing_cache.domain.bound import Promise
from farthing_cache.domain.errors import VerifierError
from farthing_cache.domain.lifetime import Lifetime
from farthing_cache.domain.refresh import EarlyRefresh
from farthing_cache.handler import CacheHandler
from farthing_cache.ports import Nearby, Verifier
from farthing_kit import nats
from farthing_kit.breaker import Breaker
from farthing_kit.context import Role
from farthing_kit.errors import StoreUnavailable
from farthing_kit.lifecycle import Process, run
from farthing_kit.server import ServerError, Service

SERVICE = "farthing.cache.v1.CacheService"
OPERATORS_ONLY = {"Erase": frozenset({Role.OPERATOR})}


@dataclass(frozen=True)
class _Stores:
    """What all use cases stand on."""

    client: RedisClient
    names: KeyNames
    neighbours: RedisNeighbours
    meter: PrometheusMeter
    recorder: Recorder
    refresh: EarlyRefresh


async def build(process: Process[CacheSettings]) -> None:
    """Redis, NATS, the use cases, the service."""
    settings = process.settings
    stores = await _stores(process)
    client = await process.enter(
        nats.connect(settings.nats_url, name="cache", telemetry=process.telemetry, died=process.crash)
    )
    sets = await _vector_sets(process, stores) if settings.vector_sets else None
    announcer = NatsAnnouncer(client, process.clock)
    answers = _answers(process, stores, announcer, sets)
    nearby = sets or Neighbourhood(stores.neighbours, budget_bytes=settings.vector_memory_bytes)
    semantic = _semantic(process, stores, answers, nearby)
    erased = (nearby.forget, semantic.evidence.erase, stores.recorder.erase)
    await hear(client, process.telemetry, nearby.forget, erased)
    handler = CacheHandler(
        answers=answers,
        semantic=semantic,
        flights=await process.enter(_flights(process, stores, answers)),
        nearby=nearby,
        analyst=Analyst(_log(process, stores), process.clock),
        erasure=Erasure(RedisEraser(stores.client, stores.names), announcer),
        clock=process.clock,
        text_limit_chars=settings.text_limit_chars,
    )
    process.start("catch up", nearby.catch_up())
    process.start("redis watch", watch(stores.client, process.report, process.clock, settings.watch_pause_ms / 1000))
    process.serve(Service(SERVICE, add_CacheServiceServicer_to_server, handler, methods=OPERATORS_ONLY))


async def _stores(process: Process[CacheSettings]) -> _Stores:
    settings = process.settings
    client, names = await process.enter(_redis(process)), KeyNames(settings.mesh_secret.reveal())
    log = RedisLog(client, names, limit_bytes=settings.log_bytes)
    recorder = Recorder(log, names, process.clock, pace_s=settings.log_pace_ms / 1000)
    process.on_close(recorder.write)
    process.start("recorder", recorder.keep_writing())
    return _Stores(
        client,
        names,
        RedisNeighbours(client, names),
        PrometheusMeter(process.telemetry.metrics),
        recorder,
        EarlyRefresh(settings.refresh_hits, settings.refresh_beta),
    )


def _redis(process: Process[CacheSettings]) -> RedisClient:
    settings = process.settings
    timeout_s = settings.redis_timeout_ms / 1000
    redis = connect(
        settings.redis_url,
        timeout_s=timeout_s,
        max_connections=settings.redis_connections,
        password=settings.redis_password.reveal().decode() if settings.redis_password else None,
    )
    return RedisClient(
        redis,
        clock=process.clock,
        breaker=Breaker(settings.breaker_failures, settings.breaker_pause_ms / 1000),
        timeout_s=timeout_s,
        memory_share=settings.memory_share,
    )


async def _vector_sets(process: Process[CacheSettings], stores: _Stores) -> VectorSets:
    sets = VectorSets(stores.client, stores.names, longest_life=process.settings.time_to_live)
    try:
        await sets.require()
    except NoVectorSets as error:
        raise ServerError(str(error)) from error
    except StoreUnavailable:
        pass  # Redis is away: the service starts without it, and look-ups by meaning are misses until they find sets
    return sets


def _answers(
    process: Process[CacheSettings], stores: _Stores, announcer: NatsAnnouncer, sets: VectorSets | None
) -> AnswerCache:
    settings = process.settings
    store = RedisAnswers(
        stores.client,
        stores.names,
        longest_life=settings.time_to_live,
        lease_time_to_live=settings.lease,
        max_leaders=settings.max_leaders,
        refresh=stores.refresh,
        sets=sets,
    )
    process.start("give claims back", store.unheard.give_back(process.clock))
    return AnswerCache(
        store=store,
        announcer=announcer,
        meter=stores.meter,
        lifetime=Lifetime(settings.time_to_live, settings.jitter),
        refresh=stores.refresh,
        entry_limit_bytes=settings.entry_limit_bytes,
        recorder=stores.recorder,
        fraction=random.random,
    )


def _semantic(process: Process[CacheSettings], stores: _Stores, answers: AnswerCache, nearby: Nearby) -> SemanticCache:
    settings = process.settings
    evidence = Evidence(
        RedisEvidence(stores.client, stores.names),
        Promise(),
        process.clock,
        pace_s=settings.evidence_pace_ms / 1000,
        fraction=random.random,
    )
    process.on_close(evidence.write)
    process.start("evidence", evidence.keep_writing())
    return SemanticCache(
        answers=answers,
        nearby=nearby,
        store=stores.neighbours,
        evidence=evidence,
        verifier=_verifier(process),
        secrets=stores.names,
        meter=stores.meter,
        clock=process.clock,
        limits=_limits(settings),
        recorder=stores.recorder,
        fraction=random.random,
    )


def _limits(settings: CacheSettings) -> Limits:
    return Limits(
        floor=settings.similarity_floor,
        candidates=settings.candidates,
        verifier_s=settings.verifier_timeout_ms / 1000,
        max_error_share=settings.max_error_share,
        compare_share=settings.compare_share,
    )


def _verifier(process: Process[CacheSettings]) -> Verifier:
    try:
        return OnnxVerifier.load()
    except VerifierError as error:
        process.log.error("no request is answered by meaning", cause=str(error))
        return NoVerifier()


def _flights(process: Process[CacheSettings], stores: _Stores, answers: AnswerCache) -> Flights:
    settings = process.settings
    store = RedisFlights(
        stores.client,
        stores.names,
        lease_time_to_live=settings.lease,
        grace=settings.lease_grace,
        max_leaders=settings.max_leaders,
        limit_bytes=settings.entry_limit_bytes,
    )
    return Flights(
        store,
        stores.meter,
        answers.counts,
        process.clock,
        pace_s=settings.follow_pace_ms / 1000,
        lease_time_to_live=settings.lease,
        followers=max(1, int(settings.max_concurrent * settings.follow_share)),
    )


def _log(process: Process[CacheSettings], stores: _Stores) -> RedisLog:
    return RedisLog(stores.client, stores.names, limit_bytes=process.settings.log_bytes)


def main() -> int:
    """Run until stopped; the exit code."""
    return run("cache", CacheSettings, build)


if __name__ == "__main__":
    sys.exit(main())
