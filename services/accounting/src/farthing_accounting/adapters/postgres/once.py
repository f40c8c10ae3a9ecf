"""Writes that happen once, however often they are asked for."""

from __future__ import annotations

from farthing_accounting.adapters.postgres.database import Connection
from farthing_accounting.domain.errors import IdempotencyMismatch
from farthing_accounting.ports import WriteOnce


async def first_time(connection: Connection, operation: str, once: WriteOnce, result: str = "") -> tuple[bool, str]:
    """Claim an idempotency key in the transaction of the write that it stands for.

    Returns whether this is the first time, and the result that was kept (this one's, or the first one's). Two at the
    same time: the second waits for the first to commit. Another body is refused."""
    cursor = await connection.execute(
        "INSERT INTO idempotency (operation, idempotency_key, digest, result) VALUES (%s, %s, %s, %s)"
        " ON CONFLICT DO NOTHING",
        (operation, once.key, once.digest, result),
    )
    if cursor.rowcount == 1:
        return True, result
    cursor = await connection.execute(
        "SELECT digest, result FROM idempotency WHERE operation = %s AND idempotency_key = %s", (operation, once.key)
    )
    row = await cursor.fetchone()
    assert row is not None
    if bytes(row[0]) != once.digest:
        raise IdempotencyMismatch(once.key)
    return False, row[1]
