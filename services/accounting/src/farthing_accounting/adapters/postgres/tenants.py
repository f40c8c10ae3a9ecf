"""Forgetting the persons of an organisation, in PostgreSQL."""

from __future__ import annotations

import secrets
from typing import Final

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.domain.scopes import ScopeKind
from farthing_accounting.ports import Erased

# Of one statement: it stays far below the limit of time of one.
_AT_ONCE: Final = 2_000
_USAGE: Final = """
WITH part AS (SELECT transaction_id FROM usage_events
               WHERE org = %(org)s AND transaction_id > %(after)s ORDER BY transaction_id LIMIT %(limit)s),
     done AS (UPDATE usage_events u SET tags = '{}', user_id = CASE
                WHEN u.user_id = '' OR u.user_id LIKE 'erased-%%' THEN u.user_id
                ELSE 'erased-' || left(encode(sha256(convert_to(%(salt)s || u.user_id, 'UTF8')), 'hex'), 16) END
                FROM part p WHERE u.transaction_id = p.transaction_id
                 AND (u.tags <> '{}' OR (u.user_id <> '' AND u.user_id NOT LIKE 'erased-%%'))
              RETURNING 1)
SELECT (SELECT max(transaction_id) FROM part), (SELECT count(*) FROM done)
"""


class PostgresTenants:
    """Amounts stay, under names that say nothing: one for each user, which nobody can compute again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def end_keys(self, org: str) -> int:
        """Remove the keys of an organisation; how many there were."""
        async with self._database.transaction() as connection:
            return (await connection.execute("DELETE FROM keys WHERE org = %s", (org,))).rowcount

    async def erase(self, org: str, keys: int) -> Erased:
        """In steps, each of which stays when a later one fails; done again, it goes on."""
        salt, after, events = secrets.token_hex(16), 0, 0
        await self._erase_budgets(org)
        while True:
            async with self._database.transaction() as connection:
                await connection.execute("SELECT set_config('accounting.erasing', %s, true)", (org,))
                values = {"org": org, "after": after, "salt": salt, "limit": _AT_ONCE}
                row = await (await connection.execute(_USAGE, values)).fetchone()
            assert row is not None
            if row[0] is None:
                break
            after, events = row[0], events + row[1]
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO erasures (org, keys, usage_events) VALUES (%s, %s, %s)", (org, keys, events)
            )
        return Erased(keys, events)

    async def _erase_budgets(self, org: str) -> None:
        """They limit nothing any more. The rows stay: the number of their last change must not go back."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE budgets SET money = NULL, tokens = NULL, concurrency = NULL,"
                " scope_id = CASE WHEN kind = %s AND scope_id NOT LIKE 'erased-%%'"
                " THEN 'erased-' || gen_random_uuid()::text ELSE scope_id END WHERE org = %s",
                (int(ScopeKind.USER), org),
            )
