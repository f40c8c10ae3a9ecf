"""The append-only ledger in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import psycopg
from psycopg.types.json import Jsonb

from farthing_accounting.adapters.postgres import reports, verification
from farthing_accounting.adapters.postgres.database import Connection, Database
from farthing_accounting.domain.budgets import Counter
from farthing_accounting.domain.ledger import Account, Booking, Entry, Transaction, Verification
from farthing_accounting.domain.reports import CostRow, ReportQuery
from farthing_accounting.domain.reservations import LedgerPosition, Spent
from farthing_accounting.ports import Posted, PostedState, Unpostable
from farthing_kit.money import NanoUsd, UnitPrices
from farthing_kit.usage import Tokens, TokenUsage

# One batch is booked at a time, over all replicas: transaction ids are then given in the order of commits, so that
# whoever sees transaction N sees every one before it. Counters in Redis rely on that (see lua/settle.lua).
FOLD_LOCK: Final = 7_201_005
VERIFY_TIMEOUT_S: Final = 60.0

_COLUMNS: Final = (
    "request_id", "transaction_id", "digest", "org", "team", "user_id", "key_id", "end_time", "reservation_id",
    "cache_level", "tier", "task", "pool", "quantization", "finish_reason", "tags", "model", "price_version",
    "fresh_input", "cache_read", "cache_write", "output", "reasoning", "prices", "cost",
    "counterfactual_model", "counterfactual_tokens", "counterfactual_prices", "counterfactual_cost",
    "superseded_request_id", "superseded_tokens", "policy_version", "hit_price_share",
)  # fmt: skip
_COPY: Final = f"COPY usage_events ({', '.join(_COLUMNS)}) FROM STDIN".encode()
_TYPES: Final = (
    "text", "int8", "bytea", "text", "text", "text", "text", "timestamptz", "text",
    "int2", "int2", "int2", "text", "text", "int2", "jsonb", "text", "int8",
    "int8", "int8", "int8", "int8", "int8", "int8[]", "int8",
    "text", "int8[]", "int8[]", "int8",
    "text", "int8[]", "int8", "int4",
)  # fmt: skip
_SPENT: Final = """
WITH position AS (SELECT coalesce(max(transaction_id), 0) AS id FROM transactions)
SELECT coalesce(sum(u.cost), 0)::bigint, coalesce(sum(u.tokens), 0)::bigint, (SELECT id FROM position)
  FROM unnest(%s::int[], %s::text[], %s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[])
       AS c (number, org, kind, scope_id, starts, ends)
  LEFT JOIN usage_events u
    ON u.org = c.org AND u.end_time >= c.starts AND u.end_time < c.ends
   AND c.scope_id = CASE c.kind WHEN 1 THEN '' WHEN 2 THEN u.team WHEN 3 THEN u.user_id ELSE u.key_id END
 GROUP BY c.number
 ORDER BY c.number
"""
_TRANSACTIONS: Final = """
SELECT t.transaction_id, t.request_id, t.create_time,
       array_agg(e.account ORDER BY e.line), array_agg(e.amount ORDER BY e.line)
  FROM (SELECT * FROM transactions
         WHERE (%(org)s = '' OR org = %(org)s)
           AND (%(request_id)s = '' OR request_id = %(request_id)s)
           AND (%(before)s::bigint IS NULL OR transaction_id < %(before)s)
         ORDER BY transaction_id DESC LIMIT %(limit)s) t
  JOIN entries e USING (transaction_id)
 GROUP BY t.transaction_id, t.request_id, t.create_time
 ORDER BY t.transaction_id DESC
"""


class PostgresLedger:
    """Usage events and their transactions, written together."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def post(self, bookings: Sequence[Booking]) -> Sequence[Posted]:
        """One commit for the whole batch."""
        if not bookings:
            return []
        try:
            async with self._database.transaction() as connection:
                await connection.execute("SELECT pg_advisory_xact_lock(%s)", (FOLD_LOCK,))
                known = await _known(connection, bookings)
                new = _first_of_each(bookings, known)
                ids = await _insert(connection, list(new.values()))
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise Unpostable(f"the ledger refuses it ({type(error).__name__})") from error
        return [_posted(booking, known, new, ids) for booking in bookings]

    async def spent(self, counters: Sequence[Counter]) -> LedgerPosition:
        """One statement, and therefore one moment, for all of them."""
        columns = (
            list(range(len(counters))),
            [counter.scope.org for counter in counters],
            [int(counter.scope.kind) for counter in counters],
            [counter.scope.id for counter in counters],
            [counter.period.start for counter in counters],
            [counter.period.end for counter in counters],
        )
        async with self._database.transaction() as connection:
            rows = await (await connection.execute(_SPENT, columns)).fetchall()
        spent = tuple(
            Spent(counter, NanoUsd(row[0]), Tokens(row[1])) for counter, row in zip(counters, rows, strict=True)
        )
        return LedgerPosition(rows[0][2] if rows else 0, spent)

    async def transactions(self, org: str, request_id: str, before: int | None, limit: int) -> Sequence[Transaction]:
        """Newest first."""
        values = {"org": org, "request_id": request_id, "before": before, "limit": limit}
        async with self._database.transaction() as connection:
            return [_transaction(row) for row in await (await connection.execute(_TRANSACTIONS, values)).fetchall()]

    async def verify(self) -> Verification:
        """Everything as of one moment."""
        async with self._database.transaction(VERIFY_TIMEOUT_S) as connection:
            return await verification.run(connection)

    async def costs(self, query: ReportQuery) -> Sequence[CostRow]:
        """Sums in SQL."""
        async with self._database.transaction() as connection:
            return await reports.costs(connection, query)


async def _known(connection: Connection, bookings: Sequence[Booking]) -> dict[str, tuple[bytes, int]]:
    """The digest and transaction of events that are booked already, by request."""
    cursor = await connection.execute(
        "SELECT request_id, digest, transaction_id FROM usage_events WHERE request_id = ANY(%s)",
        ([booking.event.request_id for booking in bookings],),
    )
    return {row[0]: (bytes(row[1]), row[2]) for row in await cursor.fetchall()}


def _first_of_each(bookings: Sequence[Booking], known: Mapping[str, object]) -> dict[str, Booking]:
    new: dict[str, Booking] = {}
    for booking in bookings:
        if booking.event.request_id not in known:
            new.setdefault(booking.event.request_id, booking)
    return new


def _posted(
    booking: Booking, known: Mapping[str, tuple[bytes, int]], new: Mapping[str, Booking], ids: Mapping[str, int]
) -> Posted:
    request_id = booking.event.request_id
    if new.get(request_id) is booking:
        return Posted(PostedState.BOOKED, ids[request_id])
    digest, transaction_id = known.get(request_id) or (new[request_id].event.digest(), ids[request_id])
    if digest != booking.event.digest():
        return Posted(PostedState.CONFLICT, 0)
    return Posted(PostedState.REPEATED, transaction_id)


async def _insert(connection: Connection, bookings: Sequence[Booking]) -> dict[str, int]:
    """The transaction id of each request."""
    if not bookings:
        return {}
    cursor = await connection.execute(
        "INSERT INTO transactions (request_id, org) SELECT * FROM unnest(%s::text[], %s::text[])"
        " RETURNING request_id, transaction_id",
        ([b.event.request_id for b in bookings], [b.event.principal.org for b in bookings]),
    )
    ids: dict[str, int] = dict(await cursor.fetchall())
    await _insert_entries(connection, bookings, ids)
    async with connection.cursor().copy(_COPY) as copy:
        copy.set_types(_TYPES)
        for booking in bookings:
            await copy.write_row(_row(booking, ids[booking.event.request_id]))
    return ids


async def _insert_entries(connection: Connection, bookings: Sequence[Booking], ids: Mapping[str, int]) -> None:
    lines = [
        (ids[booking.event.request_id], line, entry.account, entry.amount)
        for booking in bookings
        for line, entry in enumerate(booking.entries, start=1)
    ]
    await connection.execute(
        "INSERT INTO entries (transaction_id, line, account, amount)"
        " SELECT * FROM unnest(%s::bigint[], %s::smallint[], %s::text[], %s::bigint[])",
        [list(column) for column in zip(*lines, strict=True)],
    )


def _row(booking: Booking, transaction_id: int) -> tuple[Any, ...]:
    event, quote = booking.event, booking.event.quote
    return (
        event.request_id,
        transaction_id,
        event.digest(),
        *(event.principal.org, event.principal.team, event.principal.user, event.principal.key_id),
        event.end_time,
        event.reservation_id,
        *(int(event.cache_level), int(event.tier), int(event.task)),
        event.pool,
        event.quantization,
        int(event.finish_reason),
        Jsonb(event.tags),
        quote.model if quote else "",
        quote.price_version if quote else 0,
        *_buckets(event.usage),
        _buckets(quote.prices if quote else UnitPrices()),
        booking.cost,
        quote.counterfactual_model if quote else "",
        _buckets(booking.counterfactual_usage),
        _buckets(quote.counterfactual_prices if quote else UnitPrices()),
        booking.counterfactual_cost,
        event.superseded.request_id if event.superseded else "",
        _buckets(event.superseded.counterfactual_usage if event.superseded else TokenUsage()),
        *((event.hit_price.policy_version, event.hit_price.share) if event.hit_price else (None, None)),
    )


def _buckets(of: TokenUsage | UnitPrices) -> list[int]:
    return [of.fresh_input, of.cache_read, of.cache_write, of.output, of.reasoning]


def _transaction(row: tuple[Any, ...]) -> Transaction:
    transaction_id, request_id, created, accounts, amounts = row
    entries = (Entry(Account(account), NanoUsd(amount)) for account, amount in zip(accounts, amounts, strict=True))
    return Transaction(transaction_id, request_id, created, tuple(entries))
