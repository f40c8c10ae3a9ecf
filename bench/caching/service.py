"""How long the cache itself takes, through gRPC: equal requests, and requests that mean the same among 10,000.

The embedding is made by the classifier and not part of it.
"""

import argparse
import asyncio
import os
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import numpy as np
from redis.asyncio import Redis

from bench.caching import _service as mesh
from bench.results import quantile
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel
from farthing_cache.domain.answer import CacheKey, Org
from farthing_cache.domain.neighbours import Place, narrow
from farthing_kit.errors import FarthingError

LOOKUPS = 2_000
WARM_UP = 200
PROBES = 500
ENTRIES = 10_000
BATCH = 500
ANSWER = "An answer of about the usual length. " * 25
ACME = Org("acme")
MILLION = 1_000_000
DAY_MS = 24 * 3600 * 1000
LOAD_WAIT_S = 3_600
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(measure(options.seed, ENTRIES))


async def measure(seed: int, entries: int) -> dict[str, float]:
    """The figures for so many vectors; those of a million have names of their own, and none of equal requests."""
    dice = np.random.default_rng(seed)
    memory = str(max(256 * 1024 * 1024, entries * 1_200))
    async with mesh.running(vector_memory_bytes=memory, redis_timeout_ms="2000") as running:
        stub, raw = await running.stub(), await running.raw()
        await mesh.trust(running.redis_url, [ACME])
        figures = await _exact(stub) if entries < MILLION else {}
        before = await _bytes(raw)
        vectors = await _fill(stub, raw, dice, entries)
        filled = await _bytes(raw)
        took = await _loaded(stub, vectors[0], entries)
        name = "_1m" if entries >= MILLION else ""
        figures |= await _semantic(stub, mesh.nearby(dice, vectors, 0.97), name)
        stats = await stub.GetStats(pb.GetStatsRequest())
        return figures | {
            f"semantic_entries{name}": float(stats.vectors),
            f"vector_bytes_each{name}": stats.vector_bytes / max(1, stats.vectors),
            f"replica_rss_mib{name}": _rss_mib(running.processes[0].pid),
            f"redis_bytes_each_vector{name}": (filled - before) / entries,
            f"partition_load_s{name}": took,
            f"load_average{name}": os.getloadavg()[0],
        }


async def _exact(stub: CacheServiceStub) -> dict[str, float]:
    where = mesh.key(b"exact")
    epoch = (await stub.Lookup(pb.LookupRequest(key=where))).epoch
    await stub.Store(pb.StoreRequest(key=where, answer=mesh.answer(ANSWER), epoch=epoch))

    async def hit() -> bool:
        return (await stub.Lookup(pb.LookupRequest(key=where))).level == CacheLevel.CACHE_LEVEL_EXACT

    took = await _timed(hit, LOOKUPS)
    return {"exact_p50_ms": quantile(took, 0.5), "exact_p99_ms": quantile(took, 0.99)}


async def _semantic(stub: CacheServiceStub, probes: mesh.Vectors, name: str) -> dict[str, float]:
    numbers = iter(range(10**9))
    served = 0
    reasons: Counter[int] = Counter()

    async def ask() -> bool:
        nonlocal served
        number = next(numbers) % len(probes)
        found = await stub.SemanticLookup(
            pb.SemanticLookupRequest(
                key=mesh.key(b"asked"),
                meaning=mesh.meaning(mesh.question(number, "the"), probes[number]),
                task=mesh.TASK,
                max_error_share=mesh.DELTA,
            )
        )
        served += found.level == CacheLevel.CACHE_LEVEL_SEMANTIC or found.explore
        reasons[found.miss_reason] += 1
        if found.explore:  # an exploration that nobody reports counts as wrong, and hits would end
            report = pb.ReportOutcomeRequest(lookup_id=found.lookup_id, agreement=pb.AGREEMENT_SAME)
            await stub.ReportOutcome(report)
        return found.level == CacheLevel.CACHE_LEVEL_SEMANTIC

    took = await _timed(ask, LOOKUPS)
    return {
        f"semantic_cache_p50_ms{name}": quantile(took, 0.5),
        f"semantic_cache_p99_ms{name}": quantile(took, 0.99),
        f"semantic_recall{name}": served / (LOOKUPS + WARM_UP),
        f"semantic_verifier_timeouts{name}": reasons[pb.MISS_REASON_VERIFIER] / (LOOKUPS + WARM_UP),
    }


async def _timed(ask: Callable[[], Awaitable[bool]], count: int) -> list[float]:
    """Milliseconds of single calls, one after another, those without a hit left out."""
    for _ in range(WARM_UP):
        await ask()
    took = []
    for _ in range(count):
        started = time.perf_counter()
        if await ask():
            took.append((time.perf_counter() - started) * 1000)
    return took


async def _fill(stub: CacheServiceStub, raw: Redis, dice: np.random.Generator, entries: int) -> mesh.Vectors:
    """Keep requests: the first ones through the service, with answers; the others, which are only to be searched
    among, as rows of the partition's log. The vectors of the first ones."""
    epoch = (await stub.Lookup(pb.LookupRequest(key=mesh.key(b"x")))).epoch
    vectors = mesh.units(dice, PROBES)
    for number, vector in enumerate(vectors):
        where = mesh.key(f"kept {number}".encode())
        said = mesh.meaning(mesh.question(number, "a"), vector)
        await stub.Store(pb.StoreRequest(key=where, answer=mesh.answer(ANSWER), epoch=epoch, meaning=said))
    place = Place.of(CacheKey(b"c" * 32, b""), mesh.ENCODER)
    log = f"{mesh.NAMES.partition(ACME)}:{epoch}:{mesh.NAMES.vectors_suffix(ACME, place.key, place.encoder)}"
    ends = str(int(time.time() * 1000) + DAY_MS)
    for start in range(PROBES, entries, BATCH):
        rows = mesh.units(dice, min(BATCH, entries - start))
        async with raw.pipeline(transaction=False) as pipe:
            for number, row in enumerate(rows, start=start):
                fields = {"i": number.to_bytes(16, "big"), "v": narrow(row).tobytes(), "x": ends, "w": "0.1", "t": "1"}
                pipe.xadd(log, fields)  # type: ignore[arg-type, unused-awaitable]
            await pipe.execute()
    return vectors


async def _loaded(stub: CacheServiceStub, vector: mesh.Vectors, entries: int) -> float:
    """Seconds until a replica that knew nothing has read a partition. Meanwhile its look-ups may fail: misses."""
    started = time.perf_counter()
    said = mesh.meaning("What is a warm up?", vector)
    asked = pb.SemanticLookupRequest(key=mesh.key(b"w"), meaning=said, task=mesh.TASK, max_error_share=mesh.DELTA)
    loaded, failed = False, 0
    async with asyncio.timeout(LOAD_WAIT_S):
        while not loaded:
            try:
                await stub.SemanticLookup(asked)
                loaded = (await stub.GetStats(pb.GetStatsRequest())).vectors >= entries
            except FarthingError:
                failed += 1
            await asyncio.sleep(0.05)
    if failed:
        print(f"{failed} look-ups failed while the partition was read")
    return time.perf_counter() - started


async def _bytes(raw: Redis) -> int:
    return int((await raw.info("memory"))["used_memory"])


def _rss_mib(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024
