"""`farthing replay --compare`: what routing costs and what it loses, beside always small and always large."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from farthing.type.v1 import model_pb2
from farthing_cli.console import Table, console, say_json
from farthing_cli.errors import InputError
from farthing_cli.mesh import Mesh
from farthing_cli.money import dollars, share
from farthing_cli.replay import Load, Outcome, Reading, read_requests, replay, right, summary

WAYS = {"small": model_pb2.TIER_SMALL, "large": model_pb2.TIER_LARGE, "routed": model_pb2.TIER_UNSPECIFIED}


@dataclass(frozen=True)
class Run:
    """One way to answer all requests of a file, and what came of it."""

    way: str
    outcome: Outcome

    @property
    def cost(self) -> int:
        """Nano-dollars."""
        return sum(each.final.cost.nano_units for each in self.outcome.answers)


async def compare(mesh: Mesh, source: Path, limit: int | None, part: str, load: Load, *, quiet: bool) -> list[Run]:
    """The same requests, three times. Caches are left out: they would answer the second time."""
    runs = []
    for way, tier in WAYS.items():
        requests = read_requests(source, Reading(limit, part, tier=tier, no_cache=True))
        if any(request.expected is None for request in requests):
            raise InputError(f'{source} cannot be compared: each line needs "expect", what a right answer holds')
        runs.append(Run(way, await replay(mesh, requests, load, quiet=quiet)))
    return runs


def show(runs: Sequence[Run], *, as_json: bool) -> None:
    """Print the table."""
    if as_json:
        say_json({run.way: summary(run.outcome) for run in runs})
        return
    table = Table("", "right", "cost", "of always large", "small", "medium", "large", "p50 ms", "failed")
    large = next(run for run in runs if run.way == "large")
    for run in runs:
        facts = summary(run.outcome)
        tiers = facts["by_tier"]
        assert isinstance(tiers, dict)
        table.add_row(
            run.way if run.way == "routed" else f"always {run.way}",
            share(right(run.outcome), len(run.outcome.grades)),
            dollars(run.cost),
            share(run.cost, large.cost),
            *(str(tiers.get(tier, 0)) for tier in ("small", "medium", "large")),
            f"{facts['p50_ms']:.0f}",
            str(run.outcome.failures.total()),
        )
    console().print(table)
