"""Nearest vectors: every one compared while they are few, a graph (usearch) once they are many."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
from usearch.compiled import MetricKind  # type: ignore[import-not-found]  # a compiled module without stubs
from usearch.index import Index as Graph
from usearch.index import search

from farthing_cache.domain.neighbours import Int8s

# From here on the graph is faster than comparing all, and finds as much (bench/caching).
GRAPH_FROM: Final = 8_192
CONNECTIVITY: Final = 16
EXPANSION_ADD: Final = 64
EXPANSION_SEARCH: Final = 96
# What usearch keeps for a vector beside it.
GRAPH_BYTES: Final = 260


class Vectors:
    """The Index port: int8 vectors of one dimension, by cosine."""

    def __init__(self, dimension: int, graph_from: int = GRAPH_FROM) -> None:
        self._dimension = dimension
        self._graph_from = graph_from
        self._graph: Graph | None = None
        self._rows: Int8s = np.zeros((0, dimension), dtype=np.int8)
        self._numbers: npt.NDArray[np.uint64] = np.zeros(0, dtype=np.uint64)
        self._count = 0

    def __len__(self) -> int:
        return len(self._graph) if self._graph is not None else self._count

    @property
    def size_bytes(self) -> int:
        """The vectors, and the graph where there is one."""
        return len(self) * (self._dimension + (GRAPH_BYTES if self._graph is not None else 8))

    def add(self, numbers: npt.NDArray[np.uint64], vectors: Int8s) -> None:
        fitting = vectors.shape[1] == self._dimension
        if not fitting:
            return
        if self._graph is None and self._count + len(numbers) > self._graph_from:
            self._build()
        if self._graph is not None:
            self._graph.add(numbers, vectors, threads=1)
            return
        self._reserve(self._count + len(numbers))
        self._rows[self._count : self._count + len(numbers)] = vectors
        self._numbers[self._count : self._count + len(numbers)] = numbers
        self._count += len(numbers)

    def remove(self, numbers: npt.NDArray[np.uint64]) -> None:
        if self._graph is not None:
            self._graph.remove(numbers)
            return
        kept = np.flatnonzero(~np.isin(self._numbers[: self._count], numbers))
        self._rows[: len(kept)] = self._rows[kept]
        self._numbers[: len(kept)] = self._numbers[kept]
        self._count = len(kept)

    def insertions(self, count: int) -> int:
        if self._graph is not None:
            return count
        return self._count + count if self._count + count > self._graph_from else 0

    def search(self, vector: Int8s, count: int) -> list[tuple[int, float]]:
        if len(self) == 0 or len(vector) != self._dimension:
            return []
        if self._graph is not None:
            found = self._graph.search(vector, count, threads=1)
            return [(int(key), 1.0 - float(far)) for key, far in zip(found.keys, found.distances, strict=True)]
        rows = self._rows[: self._count]
        near = search(rows, vector, min(count, self._count), MetricKind.Cos, exact=True, threads=1)
        return [
            (int(self._numbers[int(at)]), 1.0 - float(far)) for at, far in zip(near.keys, near.distances, strict=True)
        ]

    def _build(self) -> None:
        self._graph = Graph(
            ndim=self._dimension,
            metric=MetricKind.Cos,
            dtype="i8",
            connectivity=CONNECTIVITY,
            expansion_add=EXPANSION_ADD,
            expansion_search=EXPANSION_SEARCH,
        )
        if self._count:
            self._graph.add(self._numbers[: self._count], self._rows[: self._count], threads=1)
        self._rows = np.zeros((0, self._dimension), dtype=np.int8)
        self._numbers = np.zeros(0, dtype=np.uint64)
        self._count = 0

    def _reserve(self, room: int) -> None:
        have = len(self._rows)
        if room <= have:
            return
        more = max(room, 2 * have, 64) - have
        self._rows = np.concatenate([self._rows, np.zeros((more, self._dimension), dtype=np.int8)])
        self._numbers = np.concatenate([self._numbers, np.zeros(more, dtype=np.uint64)])
