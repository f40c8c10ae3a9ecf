"""Bags of n-grams: the buckets of many texts, and sums over them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from farthing_classifier.domain.ngrams import BUCKETS
from farthing_models.fitting import Matrix


@dataclass(frozen=True, slots=True, eq=False)
class Bags:
    """One row for each text, with 1 / sqrt(k) for each of its k buckets; bucket 0, which means nothing, is left out."""

    matrix: Any

    @classmethod
    def of(cls, buckets: Sequence[Sequence[int]]) -> Bags:
        """From the buckets of each text, as domain.ngrams gives them."""
        sizes = np.asarray([len(row) for row in buckets], dtype=np.int64)
        columns = np.fromiter((bucket for row in buckets for bucket in row), dtype=np.int64, count=int(sizes.sum()))
        values = np.repeat(1.0 / np.sqrt(np.maximum(sizes, 1)), sizes) * (columns > 0)
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return cls(sparse.csr_matrix((values, columns, starts), shape=(len(buckets), BUCKETS)))

    def part(self, rows: npt.NDArray[Any]) -> Bags:
        """Some of the texts: a mask, or numbers."""
        return Bags(self.matrix[rows])

    def folded(self, columns: int) -> Any:
        """The same with fewer buckets: those that are equal modulo `columns` fall together."""
        fold = sparse.csr_matrix(
            (np.ones(BUCKETS), (np.arange(BUCKETS), np.arange(BUCKETS) % columns)), shape=(BUCKETS, columns)
        )
        return (self.matrix @ fold).tocsr()

    def sums(self, table: Matrix) -> Matrix:
        """For each text the sum of its buckets' rows of `table`, divided by sqrt(k)."""
        return np.asarray(self.matrix @ table)

    def shares(self) -> Any:
        """1 / k instead of 1 / sqrt(k): for means."""
        counts = np.maximum(np.diff(self.matrix.indptr), 1)
        return sparse.diags(1.0 / np.sqrt(counts)) @ self.matrix
