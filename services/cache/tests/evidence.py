"""Evidence as months of right answers would have left it, and vectors at a chosen distance."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from farthing_cache.domain.bound import Action, Guard, Promise
from farthing_cache.domain.neighbours import Rows, narrow

DIMENSION = 384
Vector = npt.NDArray[np.float32]


def trusted(delta: float, requests: int = 20_000) -> Guard:
    """A guard that has seen nothing but right answers."""
    guard, dice = Guard.new(Promise(delta=delta)), random.Random(7)
    for _ in range(requests):
        score = dice.uniform(0.5, 0.999)
        guard.observe_request()
        decision = guard.decide(score, dice.random())
        explored = decision.action is Action.EXPLORE
        if explored or decision.action is Action.MISS:
            guard.label(score, explored=explored, right=True, propensity=decision.propensity)
    return guard


@lru_cache(maxsize=4)
def state(delta: float) -> bytes:
    """A trusted guard as the cache keeps it."""
    return json.dumps(trusted(delta).to_state()).encode()


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
