"""The cache with a million vectors in one partition: how a replica reads them, how it answers meanwhile and afterwards.

`semantic_p50_ms_1m` is a hit through gRPC with the embedding, which is made in the caller, before it;
`semantic_cache_p50_ms_1m` the same without. `loading_*` are calls, one after the other, to a replica that is reading
the partition: of that partition, of another, and for its counters. `loop_gap_*` are gaps in the event loop of a second
reader of the same log, alone in a process and searched meanwhile; `loop_busy_max_ms_1m` is the most that its thread
computed within one, whatever else the machine did. `index_recall_1m` says how many nearest rows are among the
candidates, against comparing all in float32, for queries at a cosine of 0.7 to 0.97 from a row. Four fifths of the
rows lie around random topics (0.56 to each other), the others at 0.3 to 0.65 from what is asked.
"""

import argparse
import asyncio
import multiprocessing
import os
import time
from collections.abc import AsyncIterator, Awaitable
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import numpy as np

from bench.caching import _service as mesh
from bench.caching import service
from bench.results import quantile
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing_cache.adapters.redis.client import RedisClient, connect
from farthing_cache.adapters.redis.neighbours import RedisNeighbours
from farthing_cache.app.neighbourhood import Neighbourhood
from farthing_cache.app.semantic import SLACK, Limits
from farthing_cache.domain.neighbours import narrow
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_kit.breaker import Breaker
from farthing_kit.clock import SystemClock
from farthing_kit.errors import FarthingError

T = TypeVar("T")
NOTES = __doc__ or ""
ROWS = 1_000_000
CHUNK = 10_000
TOPICS = 2_000
TO_TOPIC = 0.75
CROWD = 0.2
QUERIES = 500
NEAREST, FURTHEST = 0.97, 0.7
BYTES_EACH = 700  # room for a vector, and for what is moved
REDIS_TIMEOUT_S = 2.0  # what is measured is how long it takes, on a machine that others load too
LOAD_WAIT_S = 300
PAUSE_S = 0.01
SOON_S = 0.001


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    encoder = OnnxEncoder.load(options.encoder, window_tokens=128, threads=1)
    return asyncio.run(_run(Corpus(options.seed, encoder), encoder))


class Corpus:
    """What was asked and kept, and what else is in the partition: chunk by chunk, the same ones each time."""

    def __init__(self, seed: int, encoder: OnnxEncoder) -> None:
        self._seed = seed
        self._topics = mesh.units(np.random.default_rng(seed), TOPICS)
        self.kept = service.kept(encoder)

    def chunk(self, number: int) -> mesh.Vectors:
        """Unit vectors; those of the first chunk begin with what was kept."""
        dice = np.random.default_rng((self._seed, number))
        crowd = int(CHUNK * CROWD)
        around = np.concatenate([dice.choice(self.kept, crowd), dice.choice(self._topics, CHUNK - crowd)])
        cosines = np.concatenate([dice.uniform(0.3, 0.65, crowd), np.full(CHUNK - crowd, TO_TOPIC)])
        made = mesh.nearby(dice, around, cosines[:, None].astype(np.float32))
        if number == 0:
            made[: service.PROBES] = self.kept
        return made

    def queries(self) -> mesh.Vectors:
        """Vectors at cosines from the furthest to the nearest from some rows of all chunks."""
        dice = np.random.default_rng((self._seed, ROWS))
        chunks = np.sort(dice.integers(ROWS // CHUNK, size=QUERIES))
        rows = np.stack([self.chunk(int(number))[dice.integers(service.PROBES, CHUNK)] for number in chunks])
        return mesh.nearby(dice, rows, dice.uniform(FURTHEST, NEAREST, (QUERIES, 1)).astype(np.float32))

    def nearest(self, queries: mesh.Vectors) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], mesh.Vectors]:
        """The row nearest to each, of all, and its cosine."""
        rows, best = np.zeros(len(queries), np.int64), np.full(len(queries), -1.0, np.float32)
        for number in range(ROWS // CHUNK):
            cosines = queries @ self.chunk(number).T
            nearest = cosines.argmax(axis=1)
            found = cosines[np.arange(len(queries)), nearest]
            rows = np.where(found > best, nearest + number * CHUNK, rows)
            best = np.maximum(best, found)
        return rows, best


async def _run(corpus: Corpus, encoder: OnnxEncoder) -> dict[str, float]:
    async with mesh.running(vector_memory_bytes=str(ROWS * BYTES_EACH), redis_timeout_ms="2000") as running:
        stub, raw = await running.stub(), await running.raw()
        await mesh.trust(running.redis_url, [service.ACME])
        before, started = await service.used_bytes(raw), time.perf_counter()
        log = await service.keep(stub, corpus.kept)
        for number in range(ROWS // CHUNK):
            rows = corpus.chunk(number)
            for start in range(service.PROBES if number == 0 else 0, CHUNK, service.BATCH):
                await service.append(raw, log, rows[start : start + service.BATCH], number * CHUNK + start)
        figures = {
            "fill_s_1m": time.perf_counter() - started,
            "redis_bytes_each_vector_1m": (await service.used_bytes(raw) - before) / ROWS,
        }
        figures |= await _loading(stub, corpus)
        stats = await stub.GetStats(pb.GetStatsRequest())
        figures |= {
            "semantic_entries_1m": float(stats.vectors),
            "vector_bytes_each_1m": stats.vector_bytes / max(1, stats.vectors),
            "replica_rss_mib_1m": service.rss_mib(running.processes[0].pid),
        }
        figures |= {f"{name}_1m": figure for name, figure in (await service.hits(stub, encoder)).items()}
        figures |= await asyncio.get_running_loop().run_in_executor(None, _read, running.redis_url, corpus)
        return {**figures, "load_average_1m": os.getloadavg()[0]}


async def _loading(stub: CacheServiceStub, corpus: Corpus) -> dict[str, float]:
    """A replica that knew nothing reads the partition, and is asked meanwhile."""
    took: dict[str, list[float]] = {"lookup": [], "elsewhere": [], "stats": []}
    vectors, hits, failed, started = 0, 0, 0, time.perf_counter()
    async with asyncio.timeout(LOAD_WAIT_S):
        while vectors < ROWS:
            number = len(took["stats"]) % service.PROBES
            found = await _timed(took["lookup"], stub.SemanticLookup(_asked(corpus.kept[number], number)))
            other = await _timed(took["elsewhere"], stub.SemanticLookup(_asked(corpus.kept[number], number, b"d")))
            stats = await _timed(took["stats"], stub.GetStats(pb.GetStatsRequest()))
            hits += found is not None and found.similarity > FURTHEST
            failed += (found, other, stats).count(None)
            vectors = stats.vectors if stats is not None else vectors
            await asyncio.sleep(PAUSE_S)
    figures = {"partition_load_s_1m": time.perf_counter() - started, "loading_failed_1m": float(failed)}
    for name, each in took.items():
        figures |= {f"loading_{name}_p50_ms_1m": quantile(each, 0.5), f"loading_{name}_max_ms_1m": max(each)}
    return figures | {"loading_found_1m": hits / len(took["lookup"])}


async def _timed(took: list[float], call: Awaitable[T]) -> T | None:
    """The answer; None if it failed."""
    started = time.perf_counter()
    try:
        return await call
    except FarthingError:
        return None
    finally:
        took.append((time.perf_counter() - started) * 1000)


def _asked(vector: mesh.Vectors, number: int, compatibility: bytes = b"c") -> pb.SemanticLookupRequest:
    said = mesh.meaning(mesh.question(number, "the"), vector)
    key = mesh.key(b"asked", compatibility)
    return pb.SemanticLookupRequest(key=key, meaning=said, task=mesh.TASK, max_error_share=mesh.DELTA)


def _read(redis_url: str, corpus: Corpus) -> dict[str, float]:
    """In a process of its own, with one thread for products as the service has."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_index, redis_url, corpus).result()


def _index(redis_url: str, corpus: Corpus) -> dict[str, float]:
    return asyncio.run(_reading(redis_url, corpus))


async def _reading(redis_url: str, corpus: Corpus) -> dict[str, float]:
    queries = corpus.queries()
    rows, best = corpus.nearest(queries)
    async with _reader(redis_url) as near:
        before = service.rss_mib(os.getpid())
        figures = await _gaps(near, queries[0])
        figures["vector_mib_1m"] = service.rss_mib(os.getpid()) - before
        found = 0
        took: list[float] = []
        for query, row in zip(queries, rows, strict=True):
            ids = await _timed(took, _near(near, query))
            found += service.row_id(int(row)) in (ids or [])
    return figures | {
        "index_recall_1m": found / len(queries),
        "index_lowest_cosine_1m": float(best.min()),
        "index_p50_ms_1m": quantile(took, 0.5),
        "index_p99_ms_1m": quantile(took, 0.99),
    }


@asynccontextmanager
async def _reader(redis_url: str) -> AsyncIterator[Neighbourhood]:
    redis = connect(redis_url, timeout_s=REDIS_TIMEOUT_S, max_connections=4)
    client = RedisClient(redis, clock=SystemClock(), breaker=Breaker(3, 0.5), timeout_s=REDIS_TIMEOUT_S)
    async with client:
        yield Neighbourhood(RedisNeighbours(client, mesh.NAMES), budget_bytes=ROWS * BYTES_EACH)


async def _gaps(near: Neighbourhood, query: mesh.Vectors) -> dict[str, float]:
    """How long the loop did not come back while a partition was read and searched."""
    gaps: list[float] = []
    busy: list[float] = []

    async def tick() -> None:
        while True:
            at, spent = time.perf_counter(), time.thread_time()
            await asyncio.sleep(SOON_S)
            gaps.append((time.perf_counter() - at - SOON_S) * 1000)
            busy.append((time.thread_time() - spent) * 1000)

    started = time.perf_counter()
    tasks = [asyncio.create_task(tick()), asyncio.create_task(near.catch_up())]
    async with asyncio.timeout(LOAD_WAIT_S):
        while near.vectors < ROWS:
            await _timed([], _near(near, query))
            await asyncio.sleep(PAUSE_S)
    took = time.perf_counter() - started
    for task in tasks:
        task.cancel()
    return {
        "reader_load_s_1m": took,
        "loop_gap_p99_ms_1m": quantile(gaps, 0.99),
        "loop_gap_p999_ms_1m": quantile(gaps, 0.999),
        "loop_gap_max_ms_1m": max(gaps),
        "loop_busy_max_ms_1m": max(busy),
    }


async def _near(near: Neighbourhood, query: mesh.Vectors) -> list[bytes]:
    limits = Limits()
    found = await near.near(
        service.ACME, service.PLACE, narrow(query), limits.candidates, limits.floor - SLACK, min_tier=0
    )
    return found.ids
