"""200 callers ask the same at once, over three replicas of the cache: how many model calls that makes, also when the
leader is killed, whether all get the same bytes, and how long after an invalidation another replica still serves what
was forgotten."""

import argparse
import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import suppress

from bench.caching import _service as mesh
from bench.results import quantile
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel
from services.cache.tests.caller import Caller

CALLERS = 200
REPLICAS = 3
PIECES = [f"piece {number} of the answer; " for number in range(20)]
PAUSE_S = 0.05
INVALIDATIONS = 100
NOTES = __doc__ or ""


class Upstream:
    """A model that takes a second, and counts its calls. The first call can be made to die half way."""

    def __init__(self, dies: bool) -> None:
        self.calls = 0
        self.leader: asyncio.Task[str] | None = None
        self._dies = dies

    async def __call__(self) -> AsyncIterator[str]:
        self.calls += 1
        dying = self._dies and self.calls == 1
        for number, piece in enumerate(PIECES):
            await asyncio.sleep(PAUSE_S)
            if dying and number == len(PIECES) // 2:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()  # as if the gateway were killed: nothing is released, nothing finished
            yield piece


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run())


async def _run() -> dict[str, float]:
    async with mesh.running(REPLICAS, redis_timeout_ms="5000") as running:
        stubs = [await running.stub(replica) for replica in range(REPLICAS)]
        calm, same, took = await _stampede(stubs, b"calm", dies=False)
        killed, same_after, took_after = await _stampede(stubs, b"killed", dies=True)
        return {
            "upstream_calls": float(calm),
            "upstream_calls_leader_killed": float(killed),
            "stampede_same_bytes": float(same),
            "stampede_same_bytes_leader_killed": float(same_after),
            "stampede_s": took,
            "stampede_leader_killed_s": took_after,
            **await _coherence(stubs),
            "load_average": os.getloadavg()[0],
        }


async def _stampede(stubs: list[CacheServiceStub], name: bytes, *, dies: bool) -> tuple[int, bool, float]:
    upstream = Upstream(dies)
    callers = [Caller(stubs[number % REPLICAS], upstream) for number in range(CALLERS)]
    started = time.perf_counter()
    asked = [asyncio.create_task(caller.ask(mesh.key(name))) for caller in callers]
    answers = []
    for task in asked:
        with suppress(asyncio.CancelledError):
            answers.append(await task)
    return upstream.calls, set(answers) == {"".join(PIECES)}, time.perf_counter() - started


async def _coherence(stubs: list[CacheServiceStub]) -> dict[str, float]:
    """How long after Invalidate has returned another replica still serves the answer, and how long Invalidate takes."""
    took, stale = [], 0
    for number in range(INVALIDATIONS):
        where = mesh.key(f"coherence {number}".encode())
        found = await stubs[0].Lookup(pb.LookupRequest(key=where))
        kept = pb.StoreRequest(key=where, answer=mesh.answer("kept"), epoch=found.epoch, mark=found.mark, tags=["docs"])
        await stubs[0].Store(kept)
        started = time.perf_counter()
        await stubs[1].Invalidate(pb.InvalidateRequest(idempotency_key=str(number), tags=["docs"]))
        took.append((time.perf_counter() - started) * 1000)
        stale += (await stubs[2].Lookup(pb.LookupRequest(key=where))).level == CacheLevel.CACHE_LEVEL_EXACT
    return {
        "invalidate_p50_ms": quantile(took, 0.5),
        "invalidate_p99_ms": quantile(took, 0.99),
        "stale_after_invalidate": float(stale),
    }
