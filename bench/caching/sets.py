"""Vectors in a replica's memory beside vector sets of Redis 8, over the same 10,000 entries of one partition.

How long a look-up by meaning takes through gRPC where it is served, and keeping an answer; how long the nearest entries
alone take; and how many of the five that comparing all in float32 finds are among them: the entries then say how near
they truly are. 500 entries have answers, in random directions; the others lie in groups of five, at cosines of 0.8 to
0.98 from the middle, and near the middles the questions for the recall are asked. `_met` is the share of look-ups that
were served, or explored for the sake of evidence. Both ways are asked in turn.
"""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
from redis.asyncio import Redis

from bench.caching import _service as mesh
from bench.caching.service import ACME, PLACE, keep, used_bytes
from bench.results import quantile
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.neighbours import RedisNeighbours
from farthing_cache.adapters.redis.vector_sets import VectorSets
from farthing_cache.app.neighbourhood import Neighbourhood
from farthing_cache.domain.neighbours import narrow
from farthing_cache.ports import Nearby
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock

ENTRIES = 10_000
ANSWERED = 500
GROUP = 5
BATCH = 500
LOOKUPS = 2_000
WARM_UP = 200
FLOOR = 0.7
DAY = timedelta(days=1)
TIMEOUT_S = 60.0
NOTES = __doc__ or ""


@dataclass
class Way:
    """One way to find vectors: a cache service that goes it, and what it takes by itself."""

    name: str
    stub: CacheServiceStub
    nearby: Nearby
    store_ms: float
    bytes_each: float
    served_ms: list[float] = field(default_factory=list)
    near_ms: list[float] = field(default_factory=list)
    met: int = 0
    found: int = 0


@dataclass(frozen=True)
class Vectors:
    """What is kept, and what is asked: of what has answers, and for the recall."""

    answered: mesh.Vectors
    others: mesh.Vectors
    again: mesh.Vectors
    questions: mesh.Vectors

    @classmethod
    def made(cls, dice: np.random.Generator) -> "Vectors":
        """As the notes say."""
        answered = mesh.units(dice, ANSWERED)
        middles = mesh.units(dice, (ENTRIES - ANSWERED) // GROUP)
        around = [mesh.nearby(dice, middles, float(at)) for at in dice.uniform(0.8, 0.98, GROUP)]
        again, questions = mesh.nearby(dice, answered, 0.97), mesh.nearby(dice, middles, 0.97)
        return cls(answered, np.concatenate(around), again, questions)


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run(Vectors.made(np.random.default_rng(options.seed))))


async def _run(vectors: Vectors) -> dict[str, float]:
    async with _way("vector_memory", vectors, sets=False) as memory, _way("vector_set", vectors, sets=True) as sets:
        ways = (memory, sets)
        await _near(ways, vectors)
        for number in range(LOOKUPS + WARM_UP):
            for way in ways:
                took, found = await _asked(way.stub, number % ANSWERED, vectors.again)
                if number >= WARM_UP:
                    way.served_ms += [took] if found.level == CacheLevel.CACHE_LEVEL_SEMANTIC else []
                    way.met += found.HasField("answer")
    figures = {f"{way.name}_{what}": figure for way in ways for what, figure in _figures(way).items()}
    return {**figures, "vector_set_load_average": os.getloadavg()[0]}


def _figures(way: Way) -> dict[str, float]:
    return {
        "p50_ms": quantile(way.served_ms, 0.5),
        "p99_ms": quantile(way.served_ms, 0.99),
        "met": way.met / LOOKUPS,
        "near_p50_ms": quantile(way.near_ms, 0.5),
        "near_p99_ms": quantile(way.near_ms, 0.99),
        "recall": way.found / (GROUP * len(way.near_ms)),
        "store_ms": way.store_ms,
        "redis_bytes_each": way.bytes_each,
    }


@asynccontextmanager
async def _way(name: str, vectors: Vectors, *, sets: bool) -> AsyncIterator[Way]:
    """A service over a Redis of its own, filled."""
    async with AsyncExitStack() as stack:
        started_with = mesh.running(redis_timeout_ms="2000", vector_sets=str(sets).lower())
        running = await stack.enter_async_context(started_with)
        stub, raw = await running.stub(), await running.raw()
        await mesh.trust(running.redis_url, [ACME])
        before, started = await used_bytes(raw), time.perf_counter()
        log = await keep(stub, vectors.answered)
        store_ms = (time.perf_counter() - started) / ANSWERED * 1000
        await _fill(raw, log, vectors.others, sets=sets)
        bytes_each = (await used_bytes(raw) - before) / ENTRIES
        redis = connect(running.redis_url, timeout_s=TIMEOUT_S, max_connections=2)
        client = RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 1.0), timeout_s=TIMEOUT_S)
        await stack.enter_async_context(client)
        nearby: Nearby = Neighbourhood(RedisNeighbours(client, mesh.NAMES), budget_bytes=10**9)
        if sets:
            nearby = VectorSets(client, mesh.NAMES, longest_life=DAY)
        await _loaded(nearby, stub, vectors, sets=sets)
        yield Way(name, stub, nearby, store_ms, bytes_each)


async def _fill(raw: Redis, log: str, vectors: mesh.Vectors, *, sets: bool) -> None:
    """Entries that are only to be found, without answers, as the service would have kept them."""
    now = int(time.time() * 1000)
    day = int(DAY.total_seconds() * 1000)
    entries = log.split(":v:")[0]
    for start in range(0, len(vectors), BATCH):
        async with raw.pipeline(transaction=False) as pipe:
            for number, vector in enumerate(vectors[start : start + BATCH], start=ANSWERED + start):
                one = number.to_bytes(16, "big")
                fields = {"v": vector.astype("<f2").tobytes(), "p": b"-", "t": "1", "b": str(now), "k": "", "s": "1"}
                pipe.hset(f"{entries}:{one.hex()}", mapping=fields)  # type: ignore[arg-type, unused-awaitable]
                if sets:
                    pipe.execute_command("VADD", f"{log}:s", "FP32", vector.astype("<f4").tobytes(), one.hex())
                    continue
                row = {"i": one, "v": narrow(vector).tobytes(), "x": str(now + day), "w": "0.1", "t": "1"}
                pipe.xadd(log, row)  # type: ignore[arg-type, unused-awaitable]
            await pipe.execute()


async def _loaded(nearby: Nearby, stub: CacheServiceStub, vectors: Vectors, *, sets: bool) -> None:
    """Wait until what is read into memory is there: the bench's own, and the service's."""
    if sets:
        return
    behind = asyncio.create_task(nearby.catch_up())
    async with asyncio.timeout(TIMEOUT_S):
        while nearby.vectors < ENTRIES or (await stub.GetStats(pb.GetStatsRequest())).vectors < ENTRIES:
            await nearby.near(ACME, PLACE, narrow(vectors.questions[0]), GROUP, FLOOR, 0)
            await _asked(stub, 0, vectors.again)
            await asyncio.sleep(0.05)
    behind.cancel()


async def _near(ways: Sequence[Way], vectors: Vectors) -> None:
    """How long the nearest take by themselves, and how many of them are found."""
    kept = np.concatenate([vectors.answered, vectors.others])
    for vector in vectors.questions:
        truly = set(np.argsort(-(kept @ vector))[:GROUP].tolist())
        for way in ways:
            started = time.perf_counter()
            near = await way.nearby.near(ACME, PLACE, narrow(vector), GROUP, FLOOR, 0)
            way.near_ms.append((time.perf_counter() - started) * 1000)
            way.found += len({int.from_bytes(one, "big") for one in near.ids} & truly)


async def _asked(stub: CacheServiceStub, number: int, vectors: mesh.Vectors) -> tuple[float, pb.SemanticLookupResponse]:
    """Milliseconds of a look-up, and what came of it."""
    asked = pb.SemanticLookupRequest(
        key=mesh.key(b"asked"),
        meaning=mesh.meaning(mesh.question(number, "the"), vectors[number]),
        task=mesh.TASK,
        max_error_share=mesh.DELTA,
    )
    started = time.perf_counter()
    found = await stub.SemanticLookup(asked)
    took = (time.perf_counter() - started) * 1000
    if found.explore:  # an exploration that nobody reports counts as wrong, and hits would end
        report = pb.ReportOutcomeRequest(lookup_id=found.lookup_id, agreement=pb.AGREEMENT_SAME)
        await stub.ReportOutcome(report)
    return took, found
