"""Vectors at a chosen distance, and rows of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from farthing_cache.domain.neighbours import Rows, narrow

DIMENSION = 384
Vector = npt.NDArray[np.float32]


def unit(seed: int) -> Vector:
    """A direction of its own."""
    vector = np.random.default_rng(seed).normal(size=DIMENSION).astype(np.float32)
    return np.asarray(vector / np.linalg.norm(vector), np.float32)


def at_cosine(vector: Vector, cosine: float, seed: int) -> Vector:
    """A unit vector at that cosine from another."""
    other = unit(seed)
    across = other - (other @ vector) * vector
    across /= np.linalg.norm(across)
    return np.asarray(cosine * vector + (1 - cosine**2) ** 0.5 * across, np.float32)


def rows(numbers: Sequence[int], ends_ms: float = 10**15, worth: float | None = None) -> Rows:
    """Rows of entries and units by number, of tier 1; worth as much as their number, or alike."""
    made = rows_of([unit(number) for number in numbers], first=numbers[0], ends_ms=ends_ms)
    made.worth[:] = numbers if worth is None else worth
    return made


def rows_of(units: Sequence[Vector], first: int = 0, ends_ms: float = 10**15) -> Rows:
    """Rows of some vectors, numbered on."""
    made = Rows.empty(len(units), len(units[0]))
    for at, one in enumerate(units):
        made.ids[at] = np.frombuffer((first + at).to_bytes(16, "big"), np.uint64)
        made.vectors[at] = narrow(one)
    made.ends_ms[:], made.worth[:], made.tiers[:] = ends_ms, 0.0, 1
    return made
