"""A bounded pool of PostgreSQL connections in which nothing waits for ever."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Self

import psycopg
import psycopg_pool
from psycopg import AsyncConnection
from psycopg.rows import TupleRow

from farthing_kit.errors import StoreUnavailable

SCHEMA: Final = "accounting"
Connection = AsyncConnection[TupleRow]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the pool and its connections may take, in seconds."""

    connections: int = 8
    waiting: int = 128
    connect_s: float = 3.0
    acquire_s: float = 2.0
    statement_s: float = 5.0
    lock_s: float = 3.0
    transaction_s: float = 10.0


class Database:
    """PostgreSQL. Opens without waiting for the server: what needs it fails with StoreUnavailable until it is there."""

    def __init__(self, url: str, *, password: str | None = None, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self._pool = psycopg_pool.AsyncConnectionPool(
            url,
            kwargs=_options(self.limits, password),
            min_size=1,
            max_size=self.limits.connections,
            max_waiting=self.limits.waiting,
            timeout=self.limits.acquire_s,
            check=psycopg_pool.AsyncConnectionPool.check_connection,
            reconnect_timeout=self.limits.connect_s,
            open=False,
            name="accounting",
        )

    async def __aenter__(self) -> Self:
        await self._pool.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._pool.close(timeout=self.limits.acquire_s)

    @asynccontextmanager
    async def transaction(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection inside a transaction that commits at the end of the block, and rolls back if it raises.

        With `timeout_s`, single statements may take that long too."""
        limit_s = timeout_s or self.limits.transaction_s
        try:
            async with asyncio.timeout(limit_s), self._pool.connection() as connection, connection.transaction():
                if timeout_s is not None:
                    await connection.execute(f"SET LOCAL statement_timeout = {int(timeout_s * 1000):d}".encode())
                yield connection
        except (psycopg.OperationalError, psycopg.InterfaceError, psycopg.errors.ReadOnlySqlTransaction) as error:
            raise unavailable(error) from error
        except (psycopg_pool.PoolTimeout, psycopg_pool.TooManyRequests, psycopg_pool.PoolClosed, TimeoutError) as error:
            raise unavailable(error) from error

    async def ping(self) -> bool:
        """Whether it answers."""
        try:
            async with self.transaction() as connection:
                await connection.execute("SELECT 1")
        except StoreUnavailable:
            return False
        return True


def unavailable(error: BaseException) -> StoreUnavailable:
    """The text of the driver stays here: it quotes statements and addresses."""
    return StoreUnavailable(
        "the database of accounting cannot be reached; try again shortly",
        metadata={"store": "postgresql", "cause": type(error).__name__},
        retry_after_s=1.0,
    )


def _options(limits: Limits, password: str | None) -> dict[str, Any]:
    settings = {
        "search_path": SCHEMA,
        "timezone": "UTC",
        "statement_timeout": int(limits.statement_s * 1000),
        "lock_timeout": int(limits.lock_s * 1000),
        "idle_in_transaction_session_timeout": int(limits.transaction_s * 1000),
    }
    options: dict[str, Any] = {
        "autocommit": True,
        "client_encoding": "utf8",  # a database made without an encoding would hand out bytes
        "connect_timeout": max(1, int(limits.connect_s)),
        "tcp_user_timeout": int(limits.transaction_s * 1000),
        "application_name": "farthing-accounting",
        "options": " ".join(f"-c {name}={value}" for name, value in settings.items()),
    }
    return options | ({"password": password} if password else {})
