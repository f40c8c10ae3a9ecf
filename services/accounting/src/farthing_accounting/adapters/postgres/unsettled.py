"""Settlements that wait for Redis, in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.reservations import Settlement
from farthing_accounting.ports import Settle
from farthing_kit.money import NanoUsd
from farthing_kit.usage import Tokens

# Two replicas never take the same ones: what one has locked, the other skips.
_TAKE: Final = """
SELECT u.transaction_id, u.request_id, u.reservation_id, u.org, u.team, u.user_id, u.key_id, u.end_time,
       u.cost, u.tokens
  FROM unsettled w JOIN usage_events u USING (transaction_id)
 ORDER BY w.transaction_id LIMIT %s FOR UPDATE OF w SKIP LOCKED
"""


class PostgresUnsettled:
    """The transaction's number is enough: the event is in the books."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def remember(self, settlements: Sequence[Settlement]) -> None:
        """Twice is once."""
        if not settlements:
            return
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO unsettled SELECT * FROM unnest(%s::bigint[]) ON CONFLICT DO NOTHING",
                ([settlement.transaction_id for settlement in settlements],),
            )

    async def waiting(self) -> bool:
        """Whether there are any."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute("SELECT EXISTS (SELECT FROM unsettled)")
            return await cursor.fetchone() == (True,)

    async def settle_some(self, settle: Settle, limit: int) -> int:
        """They are forgotten when `settle` has returned and the transaction commits; otherwise they come again."""
        async with self._database.transaction() as connection:
            found = [_settlement(row) for row in await (await connection.execute(_TAKE, (limit,))).fetchall()]
            if found:
                await settle(found)
                await connection.execute(
                    "DELETE FROM unsettled WHERE transaction_id = ANY(%s)", ([s.transaction_id for s in found],)
                )
            return len(found)


def _settlement(row: tuple[Any, ...]) -> Settlement:
    transaction_id, request_id, reservation_id, org, team, user, key_id, end, cost, tokens = row
    principal = Principal(org, team, user, key_id)
    return Settlement(transaction_id, request_id, reservation_id, principal, end, NanoUsd(cost), Tokens(tokens))
