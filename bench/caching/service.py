"""How long the cache itself takes, through gRPC: equal requests, and requests that mean the same among 10,000.

`semantic_p50_ms` is a hit through gRPC with the embedding of the prompt, which is made in the caller, before it;
`semantic_cache_p50_ms` the same without. Through a gateway, which asks the classifier: `python -m bench.caching mesh`.
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
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder

LOOKUPS = 2_000
WARM_UP = 200
PROBES = 500
ENTRIES = 10_000
BATCH = 500
ANSWER = "An answer of about the usual length. " * 25
ACME = Org("acme")
PLACE = Place.of(CacheKey(b"c" * 32, b""), mesh.ENCODER)
DAY_MS = 24 * 3600 * 1000
LOAD_WAIT_S = 60
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    encoder = OnnxEncoder.load(options.encoder, window_tokens=128, threads=1)
    return asyncio.run(_run(np.random.default_rng(options.seed), encoder))


async def _run(dice: np.random.Generator, encoder: OnnxEncoder) -> dict[str, float]:
    async with mesh.running(redis_timeout_ms="2000") as running:
        stub, raw = await running.stub(), await running.raw()
        await mesh.trust(running.redis_url, [ACME])
        figures = await _exact(stub)
        before = await used_bytes(raw)
        vectors = kept(encoder)
        log = await keep(stub, vectors)
        for start in range(PROBES, ENTRIES, BATCH):
            await append(raw, log, mesh.units(dice, min(BATCH, ENTRIES - start)), start)
        filled = await used_bytes(raw)
        took = await _loaded(stub, vectors[0])
        figures |= await hits(stub, encoder)
        stats = await stub.GetStats(pb.GetStatsRequest())
        return figures | {
            "semantic_entries": float(stats.vectors),
            "vector_bytes_each": stats.vector_bytes / max(1, stats.vectors),
            "replica_rss_mib": rss_mib(running.processes[0].pid),
            "redis_bytes_each_vector": (filled - before) / ENTRIES,
            "partition_load_s": took,
            "load_average": os.getloadavg()[0],
        }


def kept(encoder: OnnxEncoder) -> mesh.Vectors:
    """The embeddings of what `keep` keeps."""
    return np.stack([encoder.encode(mesh.question(number, "a")).embedding for number in range(PROBES)]).astype("f4")


async def hits(stub: CacheServiceStub, encoder: OnnxEncoder) -> dict[str, float]:
    """Look-ups of what means the same, with the embedding and without."""

    def made(number: int) -> mesh.Vectors:
        return np.asarray(encoder.encode(mesh.question(number, "the")).embedding, np.float32)

    probes = [made(number) for number in range(PROBES)]
    whole = await semantic(stub, made)
    return await semantic(stub, lambda number: probes[number]) | {
        "semantic_p50_ms": whole["semantic_cache_p50_ms"],
        "semantic_p99_ms": whole["semantic_cache_p99_ms"],
    }


async def _exact(stub: CacheServiceStub) -> dict[str, float]:
    where = mesh.key(b"exact")
    epoch = (await stub.Lookup(pb.LookupRequest(key=where))).epoch
    await stub.Store(pb.StoreRequest(key=where, answer=mesh.answer(ANSWER), epoch=epoch))

    async def hit() -> bool:
        return (await stub.Lookup(pb.LookupRequest(key=where))).level == CacheLevel.CACHE_LEVEL_EXACT

    took = await _timed(hit, LOOKUPS)
    return {"exact_p50_ms": quantile(took, 0.5), "exact_p99_ms": quantile(took, 0.99)}


async def semantic(stub: CacheServiceStub, vector: Callable[[int], mesh.Vectors]) -> dict[str, float]:
    """Look-ups of what means the same as what `keep` kept, each by a vector near to its own."""
    numbers = iter(range(10**9))
    served = 0
    reasons: Counter[int] = Counter()

    async def ask() -> bool:
        nonlocal served
        number = next(numbers) % PROBES
        found = await stub.SemanticLookup(
            pb.SemanticLookupRequest(
                key=mesh.key(b"asked"),
                meaning=mesh.meaning(mesh.question(number, "the"), vector(number)),
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
        "semantic_cache_p50_ms": quantile(took, 0.5),
        "semantic_cache_p99_ms": quantile(took, 0.99),
        "semantic_recall": served / (LOOKUPS + WARM_UP),
        "semantic_verifier_timeouts": reasons[pb.MISS_REASON_VERIFIER] / (LOOKUPS + WARM_UP),
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


async def keep(stub: CacheServiceStub, vectors: mesh.Vectors) -> str:
    """Keep requests with answers, one for each vector; the name of their partition's log."""
    epoch = (await stub.Lookup(pb.LookupRequest(key=mesh.key(b"x")))).epoch
    for number, vector in enumerate(vectors):
        where = mesh.key(f"kept {number}".encode())
        said = mesh.meaning(mesh.question(number, "a"), vector)
        await stub.Store(pb.StoreRequest(key=where, answer=mesh.answer(ANSWER), epoch=epoch, meaning=said))
    return f"{mesh.NAMES.partition(ACME)}:{epoch}:{mesh.NAMES.vectors_suffix(ACME, PLACE.key, PLACE.encoder)}"


async def append(raw: Redis, log: str, vectors: mesh.Vectors, start: int) -> None:
    """Add what is only to be searched among, as rows of the log without entries."""
    ends = str(int(time.time() * 1000) + DAY_MS)
    async with raw.pipeline(transaction=False) as pipe:
        for number, row in enumerate(vectors, start=start):
            fields = {"i": row_id(number), "v": narrow(row).tobytes(), "x": ends, "w": "0.1", "t": "1"}
            pipe.xadd(log, fields)  # type: ignore[arg-type, unused-awaitable]
        await pipe.execute()


def row_id(number: int) -> bytes:
    """The id of a row without an entry."""
    return number.to_bytes(16, "big")


async def _loaded(stub: CacheServiceStub, vector: mesh.Vectors) -> float:
    """Seconds until a replica that knew nothing has read a partition."""
    started = time.perf_counter()
    said = mesh.meaning("What is a warm up?", vector)
    asked = pb.SemanticLookupRequest(key=mesh.key(b"w"), meaning=said, task=mesh.TASK, max_error_share=mesh.DELTA)
    async with asyncio.timeout(LOAD_WAIT_S):
        while (await stub.GetStats(pb.GetStatsRequest())).vectors < ENTRIES:
            await stub.SemanticLookup(asked)
            await asyncio.sleep(0.05)
    return time.perf_counter() - started


async def used_bytes(raw: Redis) -> int:
    """What Redis holds."""
    return int((await raw.info("memory"))["used_memory"])


def rss_mib(pid: int) -> float:
    """The memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS"))) / 1024
