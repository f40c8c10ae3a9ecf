"""The schema: brought up to date once, whoever starts first, and never changed behind anyone's back."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from farthing_accounting.adapters.postgres.database import Database, Limits
from farthing_accounting.adapters.postgres.migrate import Migration, MigrationError, migrate, migrations
from farthing_kit.errors import StoreUnavailable
from farthing_kit.local.process import free_port
from farthing_kit.testing.waiting import until


async def test_replicas_that_start_together_migrate_once(postgres_dsn: str) -> None:
    async with Database(postgres_dsn) as one, Database(postgres_dsn) as other:
        done = await asyncio.gather(migrate(one), migrate(other))
        assert sorted(done, key=len) == [[], [file.name for file in migrations()]]
        assert await migrate(one) == []


async def test_the_second_replica_waits_for_as_long_as_the_first_migrates(postgres_dsn: str) -> None:
    """Much longer than any other lock is waited for, and than any other statement may take."""
    impatient = Limits(lock_s=0.05, statement_s=0.05, transaction_s=0.1)
    slow = Migration(9_000, "9000_slow.sql", "SELECT pg_sleep(0.5)")
    files = [*migrations(), slow]
    async with Database(postgres_dsn, limits=impatient) as one, Database(postgres_dsn, limits=impatient) as other:
        done = await asyncio.gather(migrate(one, files), migrate(other, files))
        assert sorted(done, key=len) == [[], [file.name for file in files]]


async def test_when_the_first_dies_the_second_migrates(postgres_dsn: str) -> None:
    endless = Migration(9_000, "9000_endless.sql", "SELECT pg_sleep(600)")
    async with Database(postgres_dsn) as one, Database(postgres_dsn) as other:
        first = asyncio.ensure_future(migrate(one, [*migrations(), endless]))
        await until(lambda: locked(other))
        second = asyncio.ensure_future(migrate(other))
        first.cancel()
        assert await second == [file.name for file in migrations()]
        await asyncio.wait({first})


async def locked(database: Database) -> bool:
    async with database.transaction() as connection:
        cursor = await connection.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted")
        return await cursor.fetchone() == (1,)


async def test_a_file_that_was_changed_is_refused(database: Database) -> None:
    first, *others = migrations()
    with pytest.raises(MigrationError, match="changed"):
        await migrate(database, [replace(first, sql=first.sql + "-- more"), *others])


async def test_a_database_from_the_future_is_refused(database: Database) -> None:
    await migrate(database, [*migrations(), Migration(9_000, "9000_later.sql", "SELECT 1")])
    with pytest.raises(MigrationError, match="newer"):
        await migrate(database)


async def test_a_file_that_fails_leaves_nothing(database: Database) -> None:
    broken = Migration(9_000, "9000_broken.sql", "CREATE TABLE half (id int); SELECT 1 / 0")
    with pytest.raises(Exception, match="division by zero"):
        await migrate(database, [*migrations(), broken])
    assert await migrate(database) == []
    async with database.transaction() as connection:
        row = await (await connection.execute("SELECT to_regclass('half')")).fetchone()
        assert row == (None,)


async def test_a_statement_that_takes_too_long_is_ended(postgres_dsn: str) -> None:
    async with Database(postgres_dsn, limits=Limits(statement_s=0.1)) as impatient:
        with pytest.raises(StoreUnavailable) as caught:
            async with impatient.transaction() as connection:
                await connection.execute("SELECT pg_sleep(30)")
        assert caught.value.metadata == {"store": "postgresql", "cause": "QueryCanceled"}


async def test_without_a_server_calls_fail_soon_and_say_nothing_of_the_address() -> None:
    limits = Limits(acquire_s=0.2)
    async with Database(f"postgresql://someone:secret@127.0.0.1:{free_port()}/x", limits=limits) as nowhere:
        assert not await nowhere.ping()
        with pytest.raises(StoreUnavailable) as caught:
            async with nowhere.transaction():
                pass
        assert "secret" not in str(caught.value)
        assert "127.0.0.1" not in str(caught.value)
