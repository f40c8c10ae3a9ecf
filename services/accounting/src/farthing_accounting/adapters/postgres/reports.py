"""Cost reports in SQL: exact integer sums over booked events."""

from __future__ import annotations

from typing import Any, Final

from psycopg import sql

from farthing_accounting.adapters.postgres.database import Connection
from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.reports import CostRow, GroupBy, ReportQuery, group_name
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage

MAX_ROWS: Final = 10_000
_GROUPS: Final = {
    GroupBy.NOTHING: sql.SQL("''"),
    GroupBy.TENANT: sql.SQL("org"),
    GroupBy.TEAM: sql.SQL("team"),
    GroupBy.USER: sql.SQL("user_id"),
    GroupBy.KEY: sql.SQL("key_id"),
    GroupBy.TIER: sql.SQL("tier::text"),
    GroupBy.MODEL: sql.SQL("model"),
    GroupBy.POOL: sql.SQL("pool"),
    GroupBy.TASK: sql.SQL("task::text"),
    GroupBy.CACHE_LEVEL: sql.SQL("cache_level::text"),
    GroupBy.DAY: sql.SQL("to_char(end_time AT TIME ZONE 'UTC', 'YYYY-MM-DD')"),
    GroupBy.TAG: sql.SQL("coalesce(tags ->> %(tag_key)s, '')"),
}
# Only what is charged counts. A call that supersedes another belongs to a request that is counted with that one.
_COSTS: Final = sql.SQL("""
SELECT {group}, count(*) FILTER (WHERE superseded_request_id = ''), count(*) FILTER (WHERE cache_level IN (2, 3, 4)),
       sum(fresh_input)::bigint, sum(cache_read)::bigint, sum(cache_write)::bigint,
       sum(output)::bigint, sum(reasoning)::bigint, sum(cost)::bigint, sum(counterfactual_cost)::bigint
  FROM usage_events u LEFT JOIN waste w USING (request_id, attempt_id, run)
 WHERE w.request_id IS NULL AND (%(org)s = '' OR org = %(org)s)
   AND (%(start)s::timestamptz IS NULL OR end_time >= %(start)s)
   AND (%(end)s::timestamptz IS NULL OR end_time < %(end)s)
 GROUP BY 1
 LIMIT %(limit)s
""")


async def costs(connection: Connection, query: ReportQuery) -> list[CostRow]:
    """One row for each group, in no order."""
    values = {
        "tag_key": query.tag_key,
        "org": query.org,
        "start": query.start,
        "end": query.end,
        "limit": MAX_ROWS + 1,
    }
    statement = _COSTS.format(group=_GROUPS[query.group_by])
    rows = await (await connection.execute(statement, values)).fetchall()
    if len(rows) > MAX_ROWS:
        text = f"gives more than {MAX_ROWS} rows, must give fewer: narrow the time or the organisation"
        raise InvalidArgument.field("group_by", text)
    return [_row(query.group_by, row) for row in rows]


def _row(group_by: GroupBy, row: tuple[Any, ...]) -> CostRow:
    group, requests, hits, *buckets, cost, counterfactual = row
    usage = TokenUsage(*buckets)
    return CostRow(group_name(group_by, group), requests, hits, usage, NanoUsd(cost), NanoUsd(counterfactual))
