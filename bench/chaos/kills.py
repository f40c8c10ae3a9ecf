"""Every part of the mesh killed with -9 in turn, one 2.5 s after the last was back, for two minutes and at least three
times each, while twelve callers ask, each repeating its request under its idempotency key until it is answered.

Afterwards: `booked_twice` requests are charged more than once, `not_booked` were answered and are in no book,
`cost_difference_nanos` is what callers were told less what they are charged, request by request without sign, charges
of which nobody was told included. `books_off_nanos` is what tenants owe by double entry less the sum over requests.
`waste_share` is what the platform paid for attempts that it charged to nobody.
"""

import argparse
import asyncio
import itertools
import os
import tempfile
import time
from pathlib import Path

from bench.chaos import books
from bench.chaos.callers import Callers
from farthing_cli import report
from tests.support.mesh import MeshUnderTest

PARTS = (
    "scheduler", "inference", "gateway", "accounting", "redis", "redis-cache", "cache", "classifier", "nats", "triton",
    "postgres",
)  # fmt: skip
LEAST_S = 120.0
EACH = 3
PAUSE_S = 2.5
AT_ONCE = 12
BOOKED_WITHIN_S = 120.0
ORGS = ("lantern", "abacus", "foundry")
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run(options.seed))


async def _run(seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="farthing-chaos-") as folder:
        async with MeshUnderTest(Path(folder) / "mesh") as mesh:
            callers = Callers([await mesh.gateway(org, 30.0) for org in ORGS], AT_ONCE, seed)
            async with callers.running():
                kills = await _kill_all(mesh)
            found = await books.settled(mesh, callers.told, BOOKED_WITHIN_S)
            verified = await report.verify(mesh.client)
    return {
        "kills": float(kills),
        "answered": float(len(callers.told)),
        "wrong_answers": float(sum(not told.right for told in callers.told)),
        "retries": float(sum(callers.failures.values())),
        **{f"retries_{why.removeprefix('ERROR_REASON_').lower().replace(' ', '_')}": float(count)
           for why, count in sorted(callers.failures.items())},
        "booked_twice": float(found.twice),
        "not_booked": float(found.missing(callers.told)),
        "cost_difference_nanos": float(found.difference_nanos(callers.told)),
        "books_off_nanos": float(found.tenants_nanos - found.charged_nanos),
        "violations": float(len(verified.violations)),
        "waste_share": 1 - found.charged_nanos / found.used_nanos,
        "kills_load_average": os.getloadavg()[0],
    }  # fmt: skip


async def _kill_all(mesh: MeshUnderTest) -> int:
    began = time.monotonic()
    for kills, part in enumerate(itertools.cycle(PARTS)):
        if kills >= EACH * len(PARTS) and time.monotonic() - began >= LEAST_S:
            return kills
        await mesh.kill(part)
        await mesh.start(part)
        await asyncio.sleep(PAUSE_S)
    raise AssertionError("a cycle ended")
