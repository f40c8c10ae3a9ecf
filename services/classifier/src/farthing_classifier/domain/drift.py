"""How far the prompts of late are from those of the training data: population stability indices over a window."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from farthing_classifier.domain.analysis import Task

# A bin that nothing fell into counts as this share: its logarithm must be finite.
LEAST_SHARE: Final = 1e-3
# The shares of a reference are rounded: so much may be missing of 1.
ROUNDING: Final = 0.02


class DriftReferenceError(ValueError):
    """This is no reference that drift can be measured against. One line."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How a number is spread: `shares` below the first of the rising `edges`, between each two, and above the last."""

    edges: tuple[float, ...]
    shares: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.edges) + 1:
            raise DriftReferenceError("needs one share more than inner edges")
        if not all(before < after for before, after in pairwise(self.edges)):
            raise DriftReferenceError("edges must rise")
        must_be_shares(self.shares)

    def bin_of(self, value: float) -> int:
        """The bin that a value falls into."""
        return bisect_right(self.edges, value)


@dataclass(frozen=True, slots=True)
class Reference:
    """The prompts that the heads were trained on."""

    complexity: Histogram
    familiarity: Histogram
    tasks: Mapping[Task, float]


@dataclass(frozen=True, slots=True)
class Drift:
    """Indices of the window: 0 is no drift. `drifted`: one is over the limit, with enough prompts to say so."""

    prompts: int
    complexity_index: float
    familiarity_index: float
    task_index: float
    drifted: bool


class Window:
    """The last `size` prompts, counted by bins: nothing of their text is kept."""

    def __init__(self, reference: Reference, *, size: int, min_prompts: int, limit: float) -> None:
        self._reference = reference
        self._size = size
        self._min_prompts = min_prompts
        self._limit = limit
        self._tasks = tuple(reference.tasks)
        self._places = {task: place for place, task in enumerate(self._tasks)}
        self._rows: deque[tuple[int, int, int]] = deque()
        # The last bin of the tasks is for those that the reference does not know, "unspecified" among them.
        sizes = (len(reference.complexity.shares), len(reference.familiarity.shares), len(self._tasks) + 1)
        self._counts = tuple([0] * size for size in sizes)

    def add(self, complexity: float, familiarity: float, task: Task) -> None:
        """One more prompt; the oldest one leaves when the window is full."""
        row = (
            self._reference.complexity.bin_of(complexity),
            self._reference.familiarity.bin_of(familiarity),
            self._places.get(task, len(self._tasks)),
        )
        self._rows.append(row)
        self._count(row, 1)
        if len(self._rows) > self._size:
            self._count(self._rows.popleft(), -1)

    def measure(self) -> Drift:
        """The drift of the window."""
        tasks = [*self._reference.tasks.values()]
        references = (
            self._reference.complexity.shares,
            self._reference.familiarity.shares,
            [*tasks, max(0.0, 1.0 - sum(tasks))],
        )
        indices = [stability_index(shares, counts) for shares, counts in zip(references, self._counts, strict=True)]
        prompts = len(self._rows)
        drifted = prompts >= self._min_prompts and max(indices) > self._limit
        return Drift(prompts, indices[0], indices[1], indices[2], drifted)

    def _count(self, row: tuple[int, int, int], by: int) -> None:
        for counts, place in zip(self._counts, row, strict=True):
            counts[place] += by


def stability_index(expected: Sequence[float], counts: Sequence[int]) -> float:
    """The population stability index of counts against expected shares; 0 for a window without prompts."""
    total = sum(counts)
    if not total:
        return 0.0
    pairs = [
        (max(LEAST_SHARE, share), max(LEAST_SHARE, count / total))
        for share, count in zip(expected, counts, strict=True)
    ]
    return sum((found - share) * math.log(found / share) for share, found in pairs)


def must_be_shares(shares: Sequence[float]) -> None:
    """Refuses what does not sum to 1."""
    if not all(0.0 <= share <= 1.0 for share in shares) or abs(sum(shares) - 1.0) > ROUNDING:
        raise DriftReferenceError("shares must lie within 0 and 1 and sum to 1")
