"""Budgets in PostgreSQL."""

from __future__ import annotations

from typing import Any, Final

from farthing_accounting.adapters.postgres.database import Connection, Database
from farthing_accounting.adapters.postgres.once import first_time
from farthing_accounting.domain.budgets import Budget, Budgets
from farthing_accounting.domain.scopes import Scope, ScopeKind
from farthing_accounting.domain.windows import Window
from farthing_accounting.ports import WriteOnce

# Held by one change at a time: whoever reads the greatest number of an organisation then has every change up to it.
_LOCK: Final = 7_201_002
_SELECT: Final = """
SELECT kind, scope_id, time_window, money, tokens, concurrency, changed FROM budgets
 WHERE org = %s ORDER BY kind, scope_id, time_window
"""
_PUT: Final = """
INSERT INTO budgets (org, kind, scope_id, time_window, money, tokens, concurrency, changed)
VALUES (%s, %s, %s, %s, %s, %s, %s, nextval('budget_changes'))
ON CONFLICT (org, kind, scope_id, time_window) DO UPDATE
   SET money = EXCLUDED.money, tokens = EXCLUDED.tokens, concurrency = EXCLUDED.concurrency, changed = EXCLUDED.changed
"""


class PostgresBudgets:
    """One row for each scope and window."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, budget: Budget, once: WriteOnce) -> tuple[Budget, int]:
        """Replace, unless the same write was done before."""
        scope = budget.scope
        async with self._database.transaction() as connection:
            await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            new, _ = await first_time(connection, "SetBudget", once)
            if new:
                limits = (budget.money, budget.tokens, budget.concurrency)
                await connection.execute(_PUT, (scope.org, scope.kind, scope.id, budget.window, *limits))
            known = await _of_org(connection, scope.org)
        (now,) = (b for b in known.budgets if (b.scope, b.window) == (scope, budget.window))
        return now, known.version

    async def of_org(self, org: str) -> Budgets:
        """Widest scope first."""
        async with self._database.transaction() as connection:
            return await _of_org(connection, org)


async def _of_org(connection: Connection, org: str) -> Budgets:
    rows = await (await connection.execute(_SELECT, (org,))).fetchall()
    return Budgets(max((row[6] for row in rows), default=0), tuple(_budget(org, row) for row in rows))


def _budget(org: str, row: tuple[Any, ...]) -> Budget:
    kind, scope_id, window, money, tokens, concurrency, _ = row
    return Budget(Scope(org, ScopeKind(kind), scope_id), Window(window), money, tokens, concurrency)
