"""The vectors of hot partitions in memory, read along from the store."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from farthing_cache.domain.answer import Org
from farthing_cache.domain.neighbours import Int8s, Near, News, Place
from farthing_cache.domain.partition import Partition
from farthing_cache.ports import NeighbourStore
from farthing_kit.errors import StoreUnavailable

Address = tuple[Org, Place]
# Rows that are read at once, by a look-up or in the background: a few milliseconds of Redis, and of the event loop.
STEP_ROWS: Final = 256
# What an empty partition counts as, where partitions are compared by what they earn per byte.
LEAST_BYTES: Final = 1024


@dataclass
class _Held:
    partition: Partition
    size_bytes: int = 0


class Neighbourhood:
    """Partitions by address, within a budget of memory. Every look-up first asks the store what is new, in one step:
    so every replica sees what any of them kept before. A log that is long is read in the background, in steps of
    milliseconds; meanwhile look-ups see what has been read. Of partitions beyond the budget, those go that earn the
    least per byte; they are read again when they are wanted."""

    def __init__(self, store: NeighbourStore, *, budget_bytes: int) -> None:
        self._store = store
        self._budget = budget_bytes
        self._held: OrderedDict[Address, _Held] = OrderedDict()
        self._behind: asyncio.Queue[Address] = asyncio.Queue()
        self._queued: set[Address] = set()
        self.size_bytes = 0

    @property
    def partitions(self) -> int:
        """How many partitions are in memory."""
        return len(self._held)

    @property
    def vectors(self) -> int:
        """How many vectors they have."""
        return sum(len(held.partition) for held in self._held.values())

    async def near(self, org: Org, place: Place, vector: Int8s, count: int, floor: float, min_tier: int) -> Near:
        """The nearest entries at or above a cosine, among those that have been read."""
        address = (org, place)
        held, news = await self._read(address, 0 if address in self._queued else STEP_ROWS)
        if not news.complete and address not in self._queued:
            self._queued.add(address)
            self._behind.put_nowait(address)
        return Near(news.epoch, held.partition.near(vector, count, floor, min_tier, news.now_ms))

    def earned(self, org: Org, place: Place, nano_usd: int) -> None:
        """A partition avoided a cost: it is worth its memory."""
        if (held := self._held.get((org, place))) is not None:
            held.partition.earned += nano_usd

    def gone(self, org: Org, place: Place, ids: list[bytes]) -> None:
        """Entries that the store does not have any more."""
        if (held := self._held.get((org, place))) is not None:
            held.partition.drop(ids)

    def forget(self, org: Org) -> None:
        """Give the memory of an organisation back. What is looked up afterwards is right without this too."""
        for address in [address for address in self._held if address[0] == org]:
            self._evict(address)

    async def catch_up(self) -> None:
        """Read what look-ups found too much to read, a step of each partition in turn; runs until cancelled."""
        while True:
            address = await self._behind.get()
            if await self._caught_up(address):
                self._queued.discard(address)
            else:
                self._behind.put_nowait(address)

    async def _caught_up(self, address: Address) -> bool:
        """Take one step; whether there is nothing more to read, or nobody to read it for: the next look-up asks
        again for what was evicted, or while the store is away."""
        if address not in self._held:
            return True
        try:
            return (await self._read(address, STEP_ROWS))[1].complete
        except StoreUnavailable:
            return True

    async def _read(self, address: Address, limit: int) -> tuple[_Held, News]:
        held = self._held.get(address)
        after = held.partition.read_to if held else "0"
        news = await self._store.news(*address, after, limit)
        held = self._aligned(address, news, after)
        if news.read_to != after and held.partition.read_to == after:  # else another call has read it meanwhile
            self._take(address, held, news)
        return held, news

    def _aligned(self, address: Address, news: News, after: str) -> _Held:
        held = self._held.get(address)
        lost = held is not None and held.partition.read_to == after and _before(news.last, after)
        if held is None or held.partition.epoch != news.epoch or lost:
            self._evict(address)
            held = self._held[address] = _Held(Partition(news.epoch, self._budget))
        self._held.move_to_end(address)
        return held

    def _take(self, address: Address, held: _Held, news: News) -> None:
        if news.rows is not None:
            held.partition.add(news.rows, news.now_ms)
        held.partition.read_to = news.read_to
        self.size_bytes += held.partition.size_bytes - held.size_bytes
        held.size_bytes = held.partition.size_bytes
        self._fit(address)

    def _fit(self, present: Address) -> None:
        while self.size_bytes > self._budget and len(self._held) > 1:
            others = ((_value(held), address) for address, held in self._held.items() if address != present)
            self._evict(min(others, key=lambda one: one[0])[1])

    def _evict(self, address: Address) -> None:
        if (held := self._held.pop(address, None)) is not None:
            self.size_bytes -= held.size_bytes


def _value(held: _Held) -> float:
    return held.partition.earned / (held.size_bytes + LEAST_BYTES)


def _before(last: str, position: str) -> bool:
    """Whether a log ends before a position that was read: it is another log then."""
    if position == "0":
        return False
    return last == "" or _moment(last) < _moment(position)


def _moment(position: str) -> tuple[int, int]:
    milliseconds, _, sequence = position.partition("-")
    return int(milliseconds), int(sequence or 0)
