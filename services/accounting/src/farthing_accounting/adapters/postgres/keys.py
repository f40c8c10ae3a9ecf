"""API keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from psycopg import sql

from farthing_accounting.adapters.postgres import policies
from farthing_accounting.adapters.postgres.database import Connection, Database
from farthing_accounting.adapters.postgres.once import first_time
from farthing_accounting.domain.keys import KeyHash, KeyId, KeyRecord
from farthing_accounting.domain.policy import Policy
from farthing_accounting.domain.principal import Principal
from farthing_accounting.ports import WriteOnce

_SELECT: Final = "SELECT org, team, user_id, key_id, create_time, expire_time, revoke_time FROM keys"
_FIND: Final = sql.SQL("""
SELECT k.org, k.team, k.user_id, k.key_id, k.create_time, k.expire_time, k.revoke_time, k.hash,
       {}
  FROM keys k
  LEFT JOIN LATERAL (SELECT * FROM policies WHERE org = k.org ORDER BY version DESC LIMIT 1) p ON true
 WHERE k.key_id = %s
""").format(policies.columns("p"))
_FIELDS: Final = 7


class PostgresKeys:
    """One row for each key, with its hash."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, record: KeyRecord, kept: KeyHash, once: WriteOnce) -> tuple[KeyRecord, bool]:
        """Insert it, unless the same write was done before."""
        principal = record.principal
        async with self._database.transaction() as connection:
            new, key_id = await first_time(connection, "CreateKey", once, principal.key_id)
            if new:
                await connection.execute(
                    "INSERT INTO keys (key_id, org, team, user_id, hash, create_time, expire_time)"
                    " VALUES (%s, %s, %s, %s, %s, %s, %s)",
                    (
                        key_id,
                        principal.org,
                        principal.team,
                        principal.user,
                        kept,
                        record.create_time,
                        record.expire_time,
                    ),
                )
            found = await _one(connection, key_id)
            assert found is not None
            return found, new

    async def find(self, key_id: KeyId) -> tuple[KeyRecord, KeyHash, Policy] | None:
        """Key and policy in one statement."""
        async with self._database.transaction() as connection:
            row = await (await connection.execute(_FIND, (key_id,))).fetchone()
        if row is None:
            return None
        return _record(row), KeyHash(bytes(row[_FIELDS])), policies.of_row(row[_FIELDS + 1 :])

    async def of_org(self, org: str) -> Sequence[KeyRecord]:
        """Oldest first."""
        async with self._database.transaction() as connection:
            cursor = await connection.execute(f"{_SELECT} WHERE org = %s ORDER BY create_time, key_id".encode(), (org,))
            return [_record(row) for row in await cursor.fetchall()]

    async def revoke(self, key_id: KeyId) -> KeyRecord | None:
        """The first time of revoking stays."""
        async with self._database.transaction() as connection:
            await connection.execute(
                "UPDATE keys SET revoke_time = now() WHERE key_id = %s AND revoke_time IS NULL", (key_id,)
            )
            return await _one(connection, key_id)


async def _one(connection: Connection, key_id: str) -> KeyRecord | None:
    row = await (await connection.execute(f"{_SELECT} WHERE key_id = %s".encode(), (key_id,))).fetchone()
    return _record(row) if row else None


def _record(row: tuple[Any, ...]) -> KeyRecord:
    org, team, user, key_id, created, expires, revoked = row[:_FIELDS]
    return KeyRecord(Principal(org, team, user, key_id), created, expires, revoked)
