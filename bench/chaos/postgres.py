"""PostgreSQL away for five minutes under load, killed as kill -9 does, and back.

Four callers of tenants that accounting knows ask all the time, each repeating its request under its key until it is
answered; `postgres_away_retries` counts what failed meanwhile. `postgres_recovery_s` is the time from the moment in
which PostgreSQL is ready again until a key that nobody has used before is admitted and every request that was answered
is in the books.
"""

import argparse
import asyncio
import os
import tempfile
import time
from pathlib import Path

from bench.chaos import books
from bench.chaos.callers import Callers
from farthing_cli import tenants
from farthing_cli.generation import Gateway
from farthing_kit.client import channel
from farthing_kit.errors import FarthingError
from tests.support.mesh import MeshUnderTest, prompt

AWAY_S = 300.0
RECOVERY_LIMIT_S = 120.0
AT_ONCE = 4
POLL_S = 0.05
ORGS = ("lantern", "foundry")
UNKNOWN = '[[tenant]]\norg = "latecomer"\n[tenant.policy]\noutage = "deny"\n[[tenant.key]]\nuser = "u"\n'
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run(options.seed))


async def _run(seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="farthing-chaos-") as folder:
        async with MeshUnderTest(Path(folder) / "mesh") as mesh, channel(mesh.address["gateway"]) as opened:
            stranger = Gateway(opened, await _key_of_a_stranger(mesh), 5.0)
            callers = Callers([await mesh.gateway(org, 30.0) for org in ORGS], AT_ONCE, seed)
            async with callers.running():
                await asyncio.sleep(5.0)
                before = sum(callers.failures.values())
                await mesh.kill("postgres")
                await asyncio.sleep(AWAY_S)
                away = sum(callers.failures.values()) - before
                answered = list(callers.told)
                await mesh.start("postgres")
                back = time.monotonic()
                admitted = await _admitted(stranger, back)
                await books.settled(mesh, answered, RECOVERY_LIMIT_S, quiet_s=0.0)
                recovered = time.monotonic() - back
            found = await books.settled(mesh, callers.told, RECOVERY_LIMIT_S)
    return {
        "postgres_away_s": AWAY_S,
        "postgres_away_answered": float(len(answered)),
        "postgres_away_retries": float(away),
        "postgres_stranger_admitted_s": admitted,
        "postgres_recovery_s": recovered,
        "postgres_not_booked": float(found.missing(callers.told)),
        "postgres_booked_twice": float(found.twice),
        "postgres_load_average": os.getloadavg()[0],
    }


async def _key_of_a_stranger(mesh: MeshUnderTest) -> str:
    file = mesh.folder.path / "stranger.toml"
    file.write_text(UNKNOWN)
    return next(iter((await tenants.apply(mesh.client, file)).values()))


async def _admitted(stranger: Gateway, since: float) -> float:
    """Seconds until a key that nobody knows yet is admitted."""
    async with asyncio.timeout(RECOVERY_LIMIT_S):
        while True:
            try:
                await stranger.ask(prompt("is PostgreSQL back?", no_cache=True))
                return time.monotonic() - since
            except FarthingError:
                await asyncio.sleep(POLL_S)
