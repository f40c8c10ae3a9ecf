"""The vectors of one partition in memory: which rows there are, and which of them are near."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from farthing_cache.domain.answer import Epoch
from farthing_cache.domain.neighbours import Int8s, Row

# What a row takes beside its vector and the index's graph: its id and figures, and its place in the table of ids.
ROW_BYTES: Final = 190
# Share of a full partition that is dropped at once: choosing costs a look at every row.
_TRIM: Final = 0.1
_FIRST_ROOM: Final = 64


class Index(Protocol):
    """Vectors by number."""

    def add(self, numbers: npt.NDArray[np.uint64], vectors: Int8s) -> None:
        """Add vectors; the numbers are new."""
        ...

    def remove(self, numbers: npt.NDArray[np.uint64]) -> None:
        """Remove vectors."""
        ...

    def insertions(self, count: int) -> int:
        """How many insertions into a graph adding so many would take: what takes long."""
        ...

    def search(self, vector: Int8s, count: int) -> list[tuple[int, float]]:
        """The nearest numbers with their cosines, nearest first. Approximate where that is faster."""
        ...

    @property
    def size_bytes(self) -> int:
        """The memory it takes."""
        ...


class Partition:
    """Rows by id over an index. A row is replaced by a newer one of its id, and not found after its end. Of more rows
    than `limit`, those of the least worth go."""

    def __init__(self, epoch: Epoch, index: Callable[[int], Index], limit: int) -> None:
        self.epoch = epoch
        self.read_to = "0"
        self.earned = 0.0
        self._make = index
        self._index: Index | None = None
        self._limit = limit
        self._numbers: dict[bytes, int] = {}
        self._next = 0
        self._ids = np.empty(_FIRST_ROOM, dtype="V16")
        self._ends = np.zeros(_FIRST_ROOM, dtype=np.int64)
        self._worth = np.zeros(_FIRST_ROOM, dtype=np.float32)
        self._tiers = np.zeros(_FIRST_ROOM, dtype=np.int8)

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def size_bytes(self) -> int:
        """An estimate of the memory it takes, from measured figures."""
        return len(self._numbers) * ROW_BYTES + (self._index.size_bytes if self._index else 0)

    def insertions(self, count: int) -> int:
        """How long adding so many rows takes, in insertions into a graph."""
        return self._index.insertions(count) if self._index else 0

    def add(self, rows: Sequence[Row], now_ms: int) -> None:
        """Take rows of the log, oldest first."""
        latest = {row.id: row for row in rows if row.ends_ms > now_ms and row.vector}
        if not latest:
            return
        self.drop(list(latest))
        self._reserve(self._next + len(latest))
        index = self._index or self._make(len(next(iter(latest.values())).vector))
        self._index = index
        numbers = np.arange(self._next, self._next + len(latest), dtype=np.uint64)
        for number, row in zip(numbers.tolist(), latest.values(), strict=True):
            self._place(number, row)
        index.add(numbers, np.stack([np.frombuffer(row.vector, np.int8) for row in latest.values()]))
        self._next += len(latest)
        if len(self) > self._limit:
            self._trim()

    def drop(self, ids: Sequence[bytes]) -> None:
        """Forget some rows, where they are here."""
        numbers = [number for one in ids if (number := self._numbers.pop(one, None)) is not None]
        if numbers and self._index is not None:
            self._index.remove(np.array(numbers, dtype=np.uint64))

    def near(self, vector: Int8s, count: int, floor: float, min_tier: int, now_ms: int) -> list[bytes]:
        """The ids of the nearest rows at or above a cosine that have not ended and are of a high enough tier."""
        if self._index is None or not self._numbers:
            return []
        found = [number for number, cosine in self._index.search(vector, count) if cosine >= floor]
        ended = [self._id(number) for number in found if self._ends[number] <= now_ms]
        self.drop(ended)
        return [self._id(n) for n in found if self._ends[n] > now_ms and self._tiers[n] >= min_tier]

    def _place(self, number: int, row: Row) -> None:
        self._numbers[row.id] = number
        self._ids[number] = np.void(row.id)
        self._ends[number] = row.ends_ms
        self._worth[number] = row.worth
        self._tiers[number] = row.tier

    def _id(self, number: int) -> bytes:
        return bytes(self._ids[number])

    def _reserve(self, room: int) -> None:
        have = len(self._ends)
        if room <= have:
            return
        more = max(room, 2 * have) - have
        self._ids = np.concatenate([self._ids, np.empty(more, dtype=self._ids.dtype)])
        self._ends = np.concatenate([self._ends, np.zeros(more, dtype=np.int64)])
        self._worth = np.concatenate([self._worth, np.zeros(more, dtype=np.float32)])
        self._tiers = np.concatenate([self._tiers, np.zeros(more, dtype=np.int8)])

    def _trim(self) -> None:
        numbers = np.fromiter(self._numbers.values(), dtype=np.int64, count=len(self._numbers))
        surplus = len(numbers) - self._limit + int(self._limit * _TRIM)
        least = numbers[np.argsort(self._worth[numbers], kind="stable")[:surplus]]
        self.drop([self._id(number) for number in least.tolist()])
