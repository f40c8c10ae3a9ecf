"""A bounded number of PostgreSQL connections, each with a moment at which it is cut, whatever the server does."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from psycopg import AsyncConnection
from psycopg.pq import TransactionStatus
from psycopg.rows import TupleRow

from farthing_kit.errors import StoreUnavailable

Connection = AsyncConnection[TupleRow]

# A connection that lay idle longer is not trusted: what stands between us and the server may have forgotten it.
_IDLE_S: Final = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What connections may take, in seconds, and how many may wait for one."""

    connections: int = 8
    waiting: int = 128
    connect_s: float = 2.0
    acquire_s: float = 2.0
    statement_s: float = 5.0
    lock_s: float = 3.0
    transaction_s: float = 10.0
    ping_s: float = 1.0


class Connections:
    """Opened by whoever finds none idle, in that caller's own time: nothing in the background can fall behind, and the
    first call after an outage finds out that it is over. Who waits for a place is counted here, and leaves when their
    time is up."""

    def __init__(self, url: str, options: dict[str, Any], limits: Limits) -> None:
        self._url = url
        self._options = options
        self._limits = limits
        self._places = asyncio.Semaphore(limits.connections)
        self._waiting = 0
        self._idle: list[tuple[Connection, float]] = []

    @asynccontextmanager
    async def one(self, limit_s: float) -> AsyncIterator[Connection]:
        """A connection for one caller, who has `limit_s` for everything; after that it is cut."""
        now = asyncio.get_running_loop().time()
        end = now + limit_s
        await self._enter(min(end, now + self._limits.acquire_s))
        try:
            connection = await self._idle_one() or await self.connect(limit_s)
            try:
                with cut_at(connection, end):
                    yield connection
            finally:
                await self._give_back(connection)
        finally:
            self._places.release()

    async def connect(self, limit_s: float) -> Connection:
        """A new one, which is the caller's to close."""
        async with asyncio.timeout(min(limit_s, self._limits.connect_s)):
            return await AsyncConnection.connect(self._url, **self._options)

    async def drop_idle(self) -> None:
        """The server went away: none of them is worth a try."""
        while self._idle:
            await self._idle.pop()[0].close()

    async def _enter(self, end: float) -> None:
        if self._waiting >= self._limits.waiting:
            raise busy("TooManyWaiting")
        self._waiting += 1
        try:
            async with asyncio.timeout_at(end):
                await self._places.acquire()
        except TimeoutError:
            raise busy("AllConnectionsTaken") from None
        finally:
            self._waiting -= 1

    async def _idle_one(self) -> Connection | None:
        while self._idle:
            connection, since = self._idle.pop()
            if asyncio.get_running_loop().time() - since < _IDLE_S and _is_quiet(connection):
                return connection
            await connection.close()
        return None

    async def _give_back(self, connection: Connection) -> None:
        if connection.closed or connection.info.transaction_status is not TransactionStatus.IDLE:
            await connection.close()
        else:
            self._idle.append((connection, asyncio.get_running_loop().time()))


@contextmanager
def cut_at(connection: Connection, end: float) -> Iterator[None]:
    """At that moment of the loop's time the socket is shut, so that whoever waits for an answer hears at once that
    there will be none. To cancel the statement instead would be to ask the server, which may be what hangs."""
    alarm = asyncio.get_running_loop().call_at(end, _cut, connection)
    try:
        yield
    finally:
        alarm.cancel()


def _cut(connection: Connection) -> None:
    if not connection.closed:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fileno())) as same:
            same.shutdown(socket.SHUT_RDWR)


def _is_quiet(connection: Connection) -> bool:
    """An idle connection on which something arrived was ended by the server: the rest of it is a farewell."""
    if connection.closed:
        return False
    arrived = select.poll()
    arrived.register(connection.fileno(), select.POLLIN)
    return not arrived.poll(0)


def busy(cause: str) -> StoreUnavailable:
    """The server may be well: there is no room for one more question."""
    return StoreUnavailable(
        "the database of accounting has too much to do; try again shortly",
        metadata={"store": "postgresql", "cause": cause},
        retry_after_s=1.0,
    )
