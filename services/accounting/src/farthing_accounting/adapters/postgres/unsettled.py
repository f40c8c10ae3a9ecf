"""What waits for Redis, in PostgreSQL: settlements, and reservations that are to be given back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.reservations import Settlement
from farthing_accounting.domain.usage import Void
from farthing_accounting.ports import Release, Settle
from farthing_kit.money import NanoUsd
from farthing_kit.usage import Tokens

# Two replicas never take the same ones: what one has locked, the other skips. A move has no reservation, and takes back
# what it moves to waste; an event that was booked as waste adds nothing.
_TAKE: Final = """
SELECT t.transaction_id, CASE t.move WHEN 0 THEN u.reservation_id ELSE '' END, u.org, u.team, u.user_id, u.key_id,
       u.end_time, sign.of * u.cost, sign.of * u.tokens
  FROM unsettled w JOIN transactions t USING (transaction_id) JOIN usage_events u USING (request_id, attempt_id, run),
       LATERAL (SELECT CASE WHEN t.charged THEN 1 WHEN t.move = 0 THEN 0 ELSE -1 END AS of) AS sign
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

    async def remember_voids(self, voids: Sequence[Void]) -> None:
        """Twice is once."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "INSERT INTO unreleased SELECT * FROM unnest(%s::text[], %s::text[]) ON CONFLICT DO NOTHING",
                ([void.org for void in voids], [void.reservation_id for void in voids]),
            )

    async def release_some(self, release: Release, limit: int) -> int:
        """They are forgotten when all were given back and the transaction commits; otherwise they come again."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(
                "DELETE FROM unreleased WHERE (org, reservation_id) IN (SELECT org, reservation_id FROM unreleased"
                " LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING org, reservation_id",
                (limit,),
            )
            found = await cursor.fetchall()
            for org, reservation_id in found:
                await release(org, reservation_id)
            return len(found)


def _settlement(row: tuple[Any, ...]) -> Settlement:
    transaction_id, reservation_id, org, team, user, key, end, cost, tokens = row
    principal = Principal(org, team, user, key)
    return Settlement(transaction_id, reservation_id, principal, end, NanoUsd(cost), Tokens(tokens))
