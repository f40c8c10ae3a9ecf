"""What the ledger says about requests, read from its tables and added up here once more."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass

import psycopg

from bench.chaos.callers import Told
from farthing_accounting.adapters.postgres.database import SCHEMA
from tests.support.mesh import MeshUnderTest

POLL_S = 0.2
_CHARGED = """
SELECT caller_request_of(u), count(DISTINCT (u.attempt_id, u.request_id, u.run)), sum(u.cost)::bigint
  FROM usage_events u
 WHERE NOT EXISTS (SELECT FROM waste w
                    WHERE (w.request_id, w.attempt_id, w.run) = (u.request_id, u.attempt_id, u.run))
 GROUP BY 1
"""
_TENANTS = "SELECT coalesce(sum(amount), 0)::bigint FROM entries WHERE account LIKE 'tenant:%'"
_EVENTS = "SELECT count(*), coalesce(sum(cost), 0)::bigint FROM usage_events"


@dataclass(frozen=True)
class Books:
    """Charged events and their cost by caller's request; and over all, what tenants owe and what was used."""

    charged: dict[str, tuple[int, int]]
    tenants_nanos: int
    events: int
    used_nanos: int

    def missing(self, told: Iterable[Told]) -> int:
        """Answered requests that are not booked."""
        return sum(one.request_id not in self.charged for one in told)

    @property
    def twice(self) -> int:
        """Requests that are charged more than once. No request of this bench is a cascade: one call each."""
        return sum(count > 1 for count, _ in self.charged.values())

    def difference_nanos(self, told: Iterable[Told]) -> int:
        """By how much what callers were told differs from what they are charged, request by request, and by what is
        charged for requests that nobody was told of."""
        known = {one.request_id: one.cost_nanos for one in told}
        wrong = sum(abs(cost - self.charged.get(name, (0, 0))[1]) for name, cost in known.items())
        return wrong + sum(cost for name, (_, cost) in self.charged.items() if name not in known)

    @property
    def charged_nanos(self) -> int:
        """What all requests are charged."""
        return sum(cost for _, cost in self.charged.values())


async def read(mesh: MeshUnderTest) -> Books:
    """The books as they are."""
    async with await psycopg.AsyncConnection.connect(
        mesh.postgres_dsn, options=f"-c search_path={SCHEMA}"
    ) as connection:
        charged = {name: (count, cost) for name, count, cost in await (await connection.execute(_CHARGED)).fetchall()}
        tenants = await (await connection.execute(_TENANTS)).fetchone()
        events = await (await connection.execute(_EVENTS)).fetchone()
    assert tenants is not None
    assert events is not None
    return Books(charged, tenants[0], events[0], events[1])


async def settled(mesh: MeshUnderTest, told: Iterable[Told], within_s: float, quiet_s: float = 5.0) -> Books:
    """The books once all that was told is in them and nothing has come for a while; or as they are after the limit."""
    told, loop = list(told), asyncio.get_running_loop()
    end, books, since = loop.time() + within_s, await read(mesh), loop.time()
    while loop.time() < end and (books.missing(told) or loop.time() - since < quiet_s):
        await asyncio.sleep(POLL_S)
        found = await read(mesh)
        if found.events != books.events:
            since = loop.time()
        books = found
    return books
