"""PostgreSQL: transactions in which nothing waits for ever, and no wait while the server is known to be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final, Self

import psycopg
from psycopg import errors

from farthing_accounting.adapters.postgres.connections import Connection, Connections, Limits, cut_at
from farthing_kit import deadline
from farthing_kit.breaker import Breaker
from farthing_kit.clock import Clock, SystemClock
from farthing_kit.errors import StoreUnavailable
from farthing_kit.store_guard import StoreGuard

__all__ = ["SCHEMA", "Connection", "Database", "Limits"]

SCHEMA: Final = "accounting"
# So much before its caller gives up, a call of ours does, so that the caller hears why.
REPLY_S: Final = 0.05
# The connection is cut first; this ends what hangs elsewhere.
_BACKSTOP_S: Final = 1.0
# A server that says so is there.
_SAID_NO: Final = (
    errors.QueryCanceled,
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.DiskFull,
    errors.OutOfMemory,
    errors.ReadOnlySqlTransaction,
)


class Database:
    """PostgreSQL. Opens without waiting for the server: what needs it fails with StoreUnavailable until it is there."""

    def __init__(
        self,
        url: str,
        *,
        password: str | None = None,
        limits: Limits | None = None,
        breaker: Breaker | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self._connections = Connections(url, _options(self.limits, password), self.limits)
        self._probe: Connection | None = None
        self._guard = StoreGuard(
            "postgresql",
            "the database of accounting cannot be reached; try again shortly",
            breaker=breaker or Breaker(threshold=3, pause_s=0.5),
            clock=clock or SystemClock(),
            timeout_s=self.limits.transaction_s,
            said_no=_SAID_NO,
            away=(psycopg.OperationalError, psycopg.InterfaceError),
        )

    @property
    def left_alone(self) -> bool:
        """Whether it is known to be away."""
        return self._guard.open

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._drop_probe()
        await self._connections.drop_idle()

    @asynccontextmanager
    async def transaction(self, timeout_s: float | None = None) -> AsyncIterator[Connection]:
        """A connection inside a transaction that commits at the end of the block, and rolls back if it raises.

        With `timeout_s`, single statements may take that long too. Inside a call it ends before the call's deadline; a
        wait that was shorter for that says nothing about the server."""
        most_s, left_s = timeout_s or self.limits.transaction_s, deadline.remaining_s()
        limit_s = most_s if left_s is None else max(0.0, min(most_s, left_s - REPLY_S))
        async with (
            self._guard.step(timeout_s=limit_s + _BACKSTOP_S, counts=limit_s == most_s),
            self._connections.one(limit_s) as connection,
            connection.transaction(),
        ):
            if timeout_s is not None:
                await connection.execute(f"SET LOCAL statement_timeout = {int(timeout_s * 1000):d}".encode())
            yield connection

    async def ping(self) -> bool:
        """Whether it answers and takes writes: asked over a connection of its own, however many wait for one, also
        while it is left alone. When it does not answer, the idle connections go: whoever comes next makes a new one."""
        try:
            async with self._guard.step(always=True, timeout_s=self.limits.ping_s + _BACKSTOP_S):
                return await self._is_writable()
        except StoreUnavailable:
            await self._drop_probe()
            await self._connections.drop_idle()
            return False

    async def _is_writable(self) -> bool:
        end = asyncio.get_running_loop().time() + self.limits.ping_s
        if self._probe is None:
            self._probe = await self._connections.connect(self.limits.ping_s)
        with cut_at(self._probe, end):
            cursor = await self._probe.execute("SELECT current_setting('transaction_read_only')")
            return await cursor.fetchone() == ("off",)

    async def _drop_probe(self) -> None:
        probe, self._probe = self._probe, None
        if probe is not None:
            await probe.close()


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
