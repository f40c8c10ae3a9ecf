"""Redis away under a steady load, over the whole mesh: killed and started again, paused, and parted from the services
that use it (nothing arrives, new connections hang); parted from the cache alone, and with only the replies lost.

Four callers ask eight questions over and over, of a gateway whose own memory is off: a hit is one of Redis. `_failed`
counts requests without an answer, or with a wrong one, before, during and after three outages. `_back_s` is the longest
time from the end of an outage (Redis started again, where it was killed) until eight requests in a row, asked after it,
were hits. The latencies are of requests that began during an outage; a model call is part of them. Where accounting is
without Redis too, a tenant asks that may go on without; else tenants that may not, and that may for a while.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from bench.results import quantile
from farthing_cli.generation import Gateway
from farthing_kit.client import channel
from tests.support.load import Load
from tests.support.mesh import MeshUnderTest
from tests.support.outages import OUTAGES, WITH_REDIS, Outage

QUESTIONS = 8
ROUNDS = 3
AWAY_S = 5.0
# Between a caller's requests: what is measured is an outage, not a machine that is full.
PAUSE_S = 0.02
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run())


async def _run() -> dict[str, float]:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as folder:
        async with (
            MeshUnderTest(Path(folder) / "frail", far_from_redis=WITH_REDIS) as mesh,
            mesh.another("gateway", FARTHING_GATEWAY_NEAR_CACHE_BYTES="0") as address,
            channel(address) as opened,
        ):
            for outage in OUTAGES:
                figures |= await _measured(mesh, Gateway(opened, mesh.client.api_key(outage.org), 30.0), outage)
    return {**figures, "outage_load_average": os.getloadavg()[0]}


async def _measured(mesh: MeshUnderTest, gateway: Gateway, outage: Outage) -> dict[str, float]:
    load = Load(gateway, [f"{outage.way}, question {number}" for number in range(QUESTIONS)])
    back, took = [], []
    async with load.running(pause_s=PAUSE_S):
        for _ in range(ROUNDS):
            await load.hits_again()
            began = time.monotonic()
            await outage.begin(mesh)
            await asyncio.sleep(AWAY_S)
            await outage.end(mesh)
            ended = time.monotonic()
            await load.hits_again()
            back.append(time.monotonic() - ended)
            took += [one.took_s * 1000 for one in load.asked if began <= one.ended_s - one.took_s < ended]
    name = f"outage_{outage.way}"
    return {
        f"{name}_failed": float(len(load.faults)),
        f"{name}_requests": float(len(took)),
        f"{name}_back_s": max(back),
        f"{name}_p50_ms": quantile(took, 0.5),
        f"{name}_p99_ms": quantile(took, 0.99),
    }
