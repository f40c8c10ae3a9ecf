"""The append-only ledger in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import psycopg

from farthing_accounting.adapters.postgres import posting, reports, verification
from farthing_accounting.adapters.postgres.connections import Connection
from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.domain.budgets import Counter
from farthing_accounting.domain.ledger import Account, Booking, Entry, Transaction, Verification
from farthing_accounting.domain.posting import Posted, plan, posted
from farthing_accounting.domain.reports import CostRow, ReportQuery
from farthing_accounting.domain.reservations import LedgerPosition, Spent
from farthing_accounting.ports import Unpostable
from farthing_kit.money import NanoUsd
from farthing_kit.usage import Tokens

# One batch is booked at a time, over all replicas: transaction ids are then given in the order of commits, so that
# whoever sees transaction N sees every one before it. Counters in Redis rely on that (see lua/settle.lua).
FOLD_LOCK: Final = 7_201_005
VERIFY_TIMEOUT_S: Final = 60.0

# Another one after every restart of the server, and where the table was made anew: a restore from a backup, a failover
# to a server that is behind, and a dump that is read back each do one of them.
_LIFE: Final = """(
SELECT left(md5(concat_ws(' ', pg_postmaster_start_time(), pg_relation_filenode(to_regclass('transactions')), d.oid)),
            8)
  FROM pg_database d WHERE d.datname = current_database())"""
_SPENT: Final = f"""
WITH position AS (SELECT coalesce(max(transaction_id), 0) AS id FROM transactions)
SELECT coalesce(sum(u.cost) FILTER (WHERE w.request_id IS NULL), 0)::bigint,
       coalesce(sum(u.tokens) FILTER (WHERE w.request_id IS NULL), 0)::bigint, (SELECT id FROM position), {_LIFE}
  FROM unnest(%s::int[], %s::text[], %s::int[], %s::text[], %s::timestamptz[], %s::timestamptz[])
       AS c (number, org, kind, scope_id, starts, ends)
  LEFT JOIN usage_events u
    ON u.org = c.org AND u.end_time >= c.starts AND u.end_time < c.ends
   AND c.scope_id = CASE c.kind WHEN 1 THEN '' WHEN 2 THEN u.team WHEN 3 THEN u.user_id ELSE u.key_id END
  LEFT JOIN waste w USING (request_id, attempt_id, run)
 GROUP BY c.number
 ORDER BY c.number
"""  # noqa: S608 - all of it is in this file
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
    """Usage events and their transactions, written together. `life` is the one that was seen last: a ledger that was
    restored from a backup gives the numbers of its lost transactions again, and what was counted by them is wrong."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.life = ""

    async def look(self) -> None:
        """See which life it is in."""
        async with self._database.transaction() as connection:
            await self._see(connection)

    async def _see(self, connection: Connection, more: str = "", *values: Any) -> None:
        row = await (await connection.execute(f"SELECT {_LIFE}{more}".encode(), values)).fetchone()
        assert row is not None
        self.life = row[0]

    async def post(self, bookings: Sequence[Booking]) -> Sequence[Posted]:
        """One commit for the whole batch."""
        if not bookings:
            return []
        try:
            async with self._database.transaction() as connection:
                await self._see(connection, ", pg_advisory_xact_lock(%s)", FOLD_LOCK)
                known = await posting.known(connection, bookings)
                made = plan(bookings, known)
                ids = await posting.write(connection, made)
        except (psycopg.DataError, psycopg.IntegrityError) as error:
            raise Unpostable(f"the ledger refuses it ({type(error).__name__})") from error
        return posted(bookings, known, made, ids)

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
            rows = await (await connection.execute(_SPENT.encode(), columns)).fetchall()
            self.life = rows[0][3] if rows else self.life
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


def _transaction(row: tuple[Any, ...]) -> Transaction:
    transaction_id, request_id, created, accounts, amounts = row
    entries = (Entry(Account(account), NanoUsd(amount)) for account, amount in zip(accounts, amounts, strict=True))
    return Transaction(transaction_id, request_id, created, tuple(entries))
