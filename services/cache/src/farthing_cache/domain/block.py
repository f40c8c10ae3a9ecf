"""Some thousand rows of a partition, and their codes."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from farthing_cache.domain.codes import FIRST_WORDS, WORDS, Words, most_apart
from farthing_cache.domain.neighbours import Rows

Numbers = npt.NDArray[np.intp]

# Rows of a large block: its first codes fit into a core's second cache, and it is moved in a few milliseconds.
ROOM: Final = 16_384
# Blocks grow, each from that before it, so that a partition of few rows takes little and nothing is ever copied.
FIRST_ROOM: Final = 64
GROWTH: Final = 4
# Rows of one block that are compared exactly, those of the nearest codes. More are near only where all are.
COMPARED: Final = 256
CODE_BYTES: Final = WORDS * 8


class Block:
    """Rows and their codes, by number in order of arrival. A row that is dropped has ended."""

    def __init__(self, dimension: int, before: Block | None = None) -> None:
        self.room: int = min(ROOM, before.room * GROWTH) if before else FIRST_ROOM
        self.count = 0
        self.left = 0
        self._rows = Rows.empty(self.room, dimension)
        self._first: Words = np.empty((FIRST_WORDS, self.room), np.uint64)
        self._rest: Words = np.empty((self.room, WORDS - FIRST_WORDS), np.uint64)

    @property
    def full(self) -> bool:
        """Whether it takes no more."""
        return self.count == self.room

    @property
    def rows(self) -> Rows:
        """What was taken, dropped rows included."""
        return self._rows.at(slice(self.count))

    @property
    def size_bytes(self) -> int:
        """The memory that its rows take; the room beyond was never touched."""
        return self.rows.size_bytes + self.count * CODE_BYTES

    def take(self, rows: Rows, words: Words) -> int:
        """Take as many rows as there is room for; how many."""
        taken = min(len(rows), self.room - self.count)
        end = self.count + taken
        self._rows.put(self.count, rows.at(slice(taken)))
        self._first[:, self.count : end] = words[:taken, :FIRST_WORDS].T
        self._rest[self.count : end] = words[:taken, FIRST_WORDS:]
        self.count = end
        self.left += taken
        return taken

    def remaining(self) -> tuple[Rows, Words]:
        """The rows that were not dropped, and their codes."""
        left = np.flatnonzero(self.rows.ends_ms)
        return self.rows.at(left), np.hstack([self._first.T[left], self._rest[left]])

    def expire(self, now_ms: int) -> None:
        """Drop the rows that have ended by themselves."""
        self.drop(np.flatnonzero(self.rows.ends_ms <= now_ms))

    def drop(self, numbers: Numbers) -> None:
        """End some rows."""
        self.left -= int(np.count_nonzero(self._rows.ends_ms[numbers]))
        self._rows.ends_ms[numbers] = 0

    def search(self, words: Words, floor: float, min_tier: int, now_ms: int) -> Numbers:
        """The rows that may be at or above a floor, have not ended and are of a high enough tier."""
        near, apart = self._within(words, floor)
        wanted = (self._rows.ends_ms[near] > now_ms) & (self._rows.tiers[near] >= min_tier)
        near, apart = near[wanted], apart[wanted]
        return near if len(near) <= COMPARED else near[np.argpartition(apart, COMPARED)[:COMPARED]]

    def _within(self, words: Words, floor: float) -> tuple[Numbers, npt.NDArray[np.uint16]]:
        """The rows whose codes say that they may be at or above a floor, and in how many bits they differ."""
        first = np.bitwise_count(self._first[:, : self.count] ^ words[:FIRST_WORDS, None]).sum(axis=0, dtype=np.uint8)
        near = np.flatnonzero(first <= most_apart(FIRST_WORDS, floor))
        rest = np.bitwise_count(self._rest[near] ^ words[FIRST_WORDS:]).sum(axis=1, dtype=np.uint16)
        apart = first[near] + rest
        within = apart <= most_apart(WORDS, floor)
        return near[within], apart[within]
