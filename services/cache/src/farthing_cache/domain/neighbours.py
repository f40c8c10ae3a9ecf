"""Kept requests that mean the same: where they are looked for, and how near they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farthing_cache.domain.answer import CacheKey, Epoch

Int8s = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]

ID_BYTES: Final = 16
_LARGEST: Final = 127


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a request means: the unit vector, its encoder, the text, which is not kept, and whether a conversation
    came before it or the encoder did not see all of it."""

    unit: Floats
    encoder: bytes
    text: str
    has_history: bool = False
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Place:
    """Where requests are compared: one compatibility, one circle of sharers, one encoder. The prompt half of the key
    is not part of it."""

    key: CacheKey
    encoder: bytes

    @classmethod
    def of(cls, key: CacheKey, encoder: bytes) -> Place:
        """The place of a request."""
        return cls(CacheKey(key.compatibility, b"", key.sharers), encoder)


@dataclass(frozen=True, slots=True)
class Rows:
    """Vectors of a partition's log, by columns: the ids of their entries (16 bytes, as two numbers), the vectors, when
    they end (ms of the store's clock), the value of one hit per byte, and the tier."""

    ids: npt.NDArray[np.uint64]
    vectors: Int8s
    ends_ms: npt.NDArray[np.float64]
    worth: Floats
    tiers: Int8s

    def __len__(self) -> int:
        return len(self.ends_ms)

    @classmethod
    def empty(cls, count: int, dimension: int) -> Rows:
        """Room for so many."""
        return cls(
            np.empty((count, ID_BYTES // 8), np.uint64),
            np.empty((count, dimension), np.int8),
            np.empty(count, np.float64),
            np.empty(count, np.float32),
            np.empty(count, np.int8),
        )

    @staticmethod
    def bytes_each(dimension: int) -> int:
        """What a row takes."""
        return Rows.empty(1, dimension).size_bytes

    @property
    def size_bytes(self) -> int:
        """What all take."""
        return sum(column.nbytes for column in self._columns())

    def at(self, which: slice | npt.NDArray[np.intp] | npt.NDArray[np.bool_]) -> Rows:
        """Some of them."""
        return Rows(self.ids[which], self.vectors[which], self.ends_ms[which], self.worth[which], self.tiers[which])

    def put(self, start: int, rows: Rows) -> None:
        """Write rows over those from a place on."""
        for column, values in zip(self._columns(), rows._columns(), strict=True):
            column[start : start + len(rows)] = values

    def id(self, number: int) -> bytes:
        """The id of one."""
        return bytes(self.ids[number])

    def of(self, one: bytes) -> npt.NDArray[np.intp]:
        """Those of an entry."""
        first, last = np.frombuffer(one, np.uint64)
        found = np.flatnonzero(self.ids[:, 1] == last)
        return np.asarray(found[self.ids[found, 0] == first], np.intp)

    def _columns(self) -> tuple[npt.NDArray[Any], ...]:
        return self.ids, self.vectors, self.ends_ms, self.worth, self.tiers


@dataclass(frozen=True, slots=True)
class News:
    """What a partition's log says after a position: rows up to `read_to`; `last` is where the log ends, "" where
    there is none."""

    epoch: Epoch
    now_ms: int
    last: str
    read_to: str
    rows: Rows | None = None

    @property
    def complete(self) -> bool:
        """Whether there is nothing after these."""
        return self.last in ("", self.read_to)


@dataclass(frozen=True, slots=True)
class Near:
    """The ids of the nearest entries, and the epoch they belong to."""

    epoch: Epoch
    ids: list[bytes]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An entry that may mean the same: its vector as float16, the profile of its words, tier, age, and life left."""

    id: bytes
    vector: bytes
    profile: bytes
    tier: int
    age: timedelta
    time_to_live: timedelta


def narrow(vector: npt.NDArray[np.floating]) -> Int8s:
    """A vector as int8, by its own largest component: its direction is kept to about a thousandth."""
    largest = float(np.abs(vector).max()) or 1.0
    return np.round(vector * (_LARGEST / largest)).astype(np.int8)


def cosine(unit: Floats, kept: bytes) -> float:
    """The cosine of a unit vector and one kept as float16, computed in float32."""
    other = np.frombuffer(kept, "<f2").astype(np.float32)
    if other.shape != unit.shape:
        return 0.0
    length = float(np.linalg.norm(other)) or 1.0
    return float(np.clip(float(unit @ other) / length, -1.0, 1.0))


def ranked(unit: Floats, candidates: Sequence[Candidate]) -> list[tuple[float, Candidate]]:
    """Candidates by their exact cosine, the nearest first."""
    scored = [(cosine(unit, candidate.vector), candidate) for candidate in candidates]
    return sorted(scored, key=lambda one: -one[0])
