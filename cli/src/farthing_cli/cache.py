"""`farthing cache`: what the cache serves, what it rests on, what other settings would give, and forgetting."""

from datetime import timedelta
from typing import Any

import click
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToDict

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import Task
from farthing_cli.arguments import MAX_HOURS, MAX_INT64, Label, Number, Whole
from farthing_cli.console import Table, console, say, say_json
from farthing_cli.errors import complete
from farthing_cli.mesh import Mesh, find
from farthing_cli.money import dollars, share

TIMEOUT_S = 30.0
EXACT_ONLY = 1.0


@click.group()
def cache() -> None:
    """Answers that were given before."""


@cache.command("analyze")
@click.argument("org", type=Label(least=1))
@click.option("--hours", type=Number(0.001, MAX_HOURS), help="Only the last hours; else all of them.")
@click.option("--threshold", "thresholds", type=Number(0, 1), multiple=True, help="To simulate; 1: exact.")
@click.option("--life-hours", "lives", type=Number(0.001, MAX_HOURS), multiple=True, help="To simulate.")
@click.option("--size", "sizes", type=Whole(0, MAX_INT64), multiple=True, help="Entries, to simulate; 0: unbounded.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of tables.")
@click.pass_obj
def analyze(
    state: Any,
    org: str,
    hours: float | None,
    thresholds: tuple[float, ...],
    lives: tuple[float, ...],
    sizes: tuple[int, ...],
    as_json: bool,
) -> None:
    """What the look-ups of ORG say: what repeats, which hits were lost and to what, and what other settings would give.

    Computed from keyed digests, scores and costs; no text of a prompt is kept.
    """
    request = pb.AnalyzeRequest(
        org=org,
        window=_duration(hours) if hours else None,
        thresholds=thresholds,
        lives=[_duration(life) for life in lives],
        sizes=sizes,
    )
    found = complete(_analyze(find(state), request))
    if as_json:
        say_json(MessageToDict(found, preserving_proto_field_name=True))
    else:
        show(found)


@cache.command("stats")
@click.argument("org", type=Label(least=1))
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_obj
def stats(state: Any, org: str, as_json: bool) -> None:
    """What the semantic answers of ORG rest on: evidence, threshold and error bound of each kind of work."""
    found = complete(_stats(find(state), org))
    if as_json:
        say_json(MessageToDict(found, preserving_proto_field_name=True))
    elif not found.categories:
        say(f"nothing of {org} was looked up by its meaning yet")
    else:
        console().print(evidence_table(found))


async def _analyze(mesh: Mesh, request: pb.AnalyzeRequest) -> pb.AnalyzeResponse:
    async with mesh.as_operator("cache") as opened:
        return await CacheServiceStub(opened).Analyze(request, timeout=TIMEOUT_S)


async def _stats(mesh: Mesh, org: str) -> pb.GetStatsResponse:
    async with mesh.as_operator("cache") as opened:
        return await CacheServiceStub(opened).GetStats(pb.GetStatsRequest(org=org), timeout=TIMEOUT_S)


def show(found: pb.AnalyzeResponse) -> None:
    """The analysis for people: what happened, what might have, and the advice."""
    out = console()
    out.print(happened_table(found))
    if found.lookups:
        out.print(simulations_table(found))
    out.print(found.advice)


def happened_table(found: pb.AnalyzeResponse) -> Table:
    """What became of the look-ups."""
    table = Table(title=f"{found.lookups:,} look-ups", title_justify="left", show_header=False)
    table.add_column("what")
    table.add_column("count", justify="right")
    table.add_column("share", justify="right")
    vetoes = {f"lost to words that differ: {one.veto}": one.count for one in found.lost_to_veto}
    rows = {
        "served, equal requests": found.exact_hits,
        "served, requests that mean the same": found.semantic_hits,
        "repeat a request word for word": found.repeats,
        "have a near one": found.near_repeats,
        "begin as another did within 5 min": found.shared_prefixes,
        "lost to expiry": found.lost_to_expiry,
        "lost to other settings or history": found.lost_to_partitioning,
        "lost to the threshold": found.lost_to_threshold,
        "lost to thin evidence": found.lost_to_evidence,
        **vetoes,
    }
    for name, count in rows.items():
        table.add_row(name, f"{count:,}", share(count, found.lookups))
    table.add_section()
    table.add_row("cost avoided", dollars(found.avoided.nano_units), "")
    return table


def simulations_table(found: pb.AnalyzeResponse) -> Table:
    """What other settings would have given; the advised ones stand out."""
    table = Table(title="What other settings would have given", title_justify="left")
    for column in ("threshold", "life", "entries", "exact", "semantic", "hits", "avoided"):
        table.add_column(column, justify="right")
    for one in found.simulations:
        table.add_row(*_simulated(one), style="bold" if one == found.recommendation else None)
    return table


def _simulated(one: pb.CacheSimulation) -> tuple[str, ...]:
    return (
        "exact only" if one.threshold >= EXACT_ONLY else f"{one.threshold:.2f}",
        str(one.life.ToTimedelta()),
        f"{one.size:,}" if one.size else "unbounded",
        f"{one.exact_hits:,}",
        f"{one.semantic_hits:,}",
        f"{100 * one.hit_share:.1f} %",
        dollars(one.avoided.nano_units),
    )


def evidence_table(found: pb.GetStatsResponse) -> Table:
    """What semantic answers rest on, by kind of work."""
    table = Table(title="Semantic answers", title_justify="left")
    for column in ("work", "look-ups", "served", "labels", "wrong", "threshold", "wrong at most", "allowed"):
        table.add_column(column, justify="right")
    for one in found.categories:
        work = Task.Name(one.task).removeprefix("TASK_").lower().replace("_", " ")
        table.add_row(
            work,
            f"{one.lookups:,}",
            share(one.served, one.lookups),
            f"{one.labels:,}",
            f"{one.wrong:,}",
            f"{one.threshold:.3f}" if one.threshold <= 1 else "exact only",
            f"{100 * one.error_bound:.2f} %",
            f"{100 * one.max_error_share:.2f} %",
        )
    return table


def _duration(hours: float) -> Duration:
    made = Duration()
    made.FromTimedelta(timedelta(hours=hours))
    return made
