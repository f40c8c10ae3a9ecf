"""`farthing report`: what the ledger says was spent and saved."""

from farthing.accounting.v1 import ledger_service_pb2, ledger_service_pb2_grpc, report_service_pb2_grpc
from farthing.accounting.v1 import report_service_pb2 as pb
from farthing_cli.console import Console, Table
from farthing_cli.mesh import Mesh
from farthing_cli.money import dollars, share

TIMEOUT_S = 30.0

GROUPS: dict[str, pb.GroupBy.ValueType] = {
    "tenant": pb.GROUP_BY_TENANT,
    "team": pb.GROUP_BY_TEAM,
    "user": pb.GROUP_BY_USER,
    "key": pb.GROUP_BY_KEY,
    "tier": pb.GROUP_BY_TIER,
    "model": pb.GROUP_BY_MODEL,
    "pool": pb.GROUP_BY_POOL,
    "task": pb.GROUP_BY_TASK,
    "cache": pb.GROUP_BY_CACHE_LEVEL,
    "day": pb.GROUP_BY_DAY,
}


async def fetch(mesh: Mesh, by: str, tag: str | None) -> pb.CostResponse:
    """The report, from accounting, over everything that is booked."""
    group_by = pb.GROUP_BY_TAG if tag else GROUPS[by]
    async with mesh.as_operator() as opened:
        stub = report_service_pb2_grpc.ReportServiceStub(opened)
        return await stub.Cost(pb.CostRequest(group_by=group_by, tag_key=tag or ""), timeout=TIMEOUT_S)


async def verify(mesh: Mesh) -> ledger_service_pb2.VerifyResponse:
    """The books, computed again."""
    async with mesh.as_operator() as opened:
        stub = ledger_service_pb2_grpc.LedgerServiceStub(opened)
        return await stub.Verify(ledger_service_pb2.VerifyRequest(), timeout=TIMEOUT_S)


def verdict(books: ledger_service_pb2.VerifyResponse) -> list[str]:
    """What the check of the books found, for people."""
    if books.violations:
        return ["the books do not add up:", *books.violations]
    total = dollars(books.ledger_total.nano_units)
    usage = dollars(books.usage_total.nano_units)
    waste = f", {dollars(wasted)} of waste" if (wasted := books.waste_total.nano_units) else ""
    return [f"the books add up: {books.usage_events:,} bookings, ledger {total} = usage {usage}{waste}"]


def show(response: pb.CostResponse, heading: str, console: Console) -> None:
    """The report as a table; the last row is the total."""
    table = Table(title=f"Cost by {heading}", title_justify="left", show_footer=False)
    table.add_column(heading)
    for column in ("requests", "cached", "tokens", "cost", "per request", "per 1K tokens", "large, no cache", "saved"):
        table.add_column(column, justify="right")
    for row in response.rows:
        table.add_row(*cells(row, row.group or "–"))
    table.add_section()
    table.add_row(*cells(response.total, "total"), style="bold")
    console.print(table)


def cells(row: pb.CostRow, name: str) -> tuple[str, ...]:
    """One row of the table."""
    saved, would = row.saved.nano_units, row.counterfactual_cost.nano_units
    return (
        name,
        f"{row.requests:,}",
        share(row.cache_hits, row.requests),
        f"{tokens(row):,}",
        dollars(row.cost.nano_units),
        dollars(row.cost_per_request.nano_units),
        dollars(row.cost_per_thousand_tokens.nano_units),
        dollars(would),
        share(saved, would),
    )


def tokens(row: pb.CostRow) -> int:
    """All tokens of a row."""
    usage = row.usage
    inputs = usage.fresh_input_tokens + usage.cache_read_tokens + usage.cache_write_tokens
    return inputs + usage.output_tokens + usage.reasoning_tokens


def as_dict(response: pb.CostResponse) -> dict[str, object]:
    """The report for programs: money in nano-dollars."""
    return {"rows": [_row(row) for row in response.rows], "total": _row(response.total)}


def _row(row: pb.CostRow) -> dict[str, object]:
    """One row for programs."""
    usage = row.usage
    return {
        "group": row.group,
        "requests": row.requests,
        "cache_hits": row.cache_hits,
        "fresh_input_tokens": usage.fresh_input_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "cost_nano_usd": row.cost.nano_units,
        "cost_per_request_nano_usd": row.cost_per_request.nano_units,
        "cost_per_thousand_tokens_nano_usd": row.cost_per_thousand_tokens.nano_units,
        "counterfactual_cost_nano_usd": row.counterfactual_cost.nano_units,
        "saved_nano_usd": row.saved.nano_units,
    }
