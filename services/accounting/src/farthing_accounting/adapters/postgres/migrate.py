"""Brings the schema up to date: each file once, in order, whichever replica starts first."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Final

from farthing_accounting.adapters.postgres.database import SCHEMA, Connection, Database

_LOCK: Final = 7_201_001
TIMEOUT_S: Final = 60.0
# Who comes second waits as long as the first may take; PostgreSQL frees the lock of one that dies.
WAIT_S: Final = TIMEOUT_S + 10.0


class MigrationError(Exception):
    """The database has a schema that this release does not know; the text says which file differs."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One file."""

    number: int
    name: str
    sql: str

    @property
    def digest(self) -> str:
        """Tells whether a file was changed after it was applied."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def migrations() -> list[Migration]:
    """Every file of the folder, in order."""
    folder = resources.files("farthing_accounting.adapters.postgres.migrations")
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return [Migration(int(file.name[:4]), file.name, file.read_text()) for file in files]


async def migrate(database: Database, files: Sequence[Migration] | None = None) -> list[str]:
    """Apply what is missing, once whoever else does so is done; returns the names. All of it, or nothing."""
    async with database.transaction(WAIT_S + TIMEOUT_S) as connection:
        await _only_one(connection, database.limits.lock_s)
        await connection.execute(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}".encode())
        await connection.execute(
            "CREATE TABLE IF NOT EXISTS migrations (number integer PRIMARY KEY, name text NOT NULL,"
            " digest text NOT NULL, apply_time timestamptz NOT NULL DEFAULT now())"
        )
        return await _apply(connection, migrations() if files is None else files)


async def _only_one(connection: Connection, lock_s: float) -> None:
    """Other locks are waited for as briefly as ever: to wait long for a table stops everybody behind us."""
    await _allow(connection, WAIT_S, lock_s=0)
    await connection.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
    await _allow(connection, TIMEOUT_S, lock_s=lock_s)


async def _allow(connection: Connection, statement_s: float, *, lock_s: float) -> None:
    for name, seconds in (("statement_timeout", statement_s), ("lock_timeout", lock_s)):
        await connection.execute(f"SET LOCAL {name} = {int(seconds * 1000):d}".encode())


async def _apply(connection: Connection, files: Sequence[Migration]) -> list[str]:
    cursor = await connection.execute("SELECT number, digest FROM migrations")
    applied: dict[int, str] = dict(await cursor.fetchall())
    if unknown := applied.keys() - {file.number for file in files}:
        raise MigrationError(
            f"the database has migration {max(unknown)}, which this release does not; start a newer one"
        )
    done = []
    for file in files:
        if file.number in applied:
            if applied[file.number] != file.digest:
                raise MigrationError(f"{file.name} was changed after it was applied; add a new file instead")
            continue
        await connection.execute(file.sql.encode())
        await connection.execute(
            "INSERT INTO migrations (number, name, digest) VALUES (%s, %s, %s)", (file.number, file.name, file.digest)
        )
        done.append(file.name)
    return done
