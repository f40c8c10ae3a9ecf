"""The jobs that were cancelled before a worker took them."""

from __future__ import annotations

from collections import OrderedDict


class Tombstones:
    """A bounded memory of job ids. The oldest is forgotten when it is full, and each after `lifetime_s`: by then
    the job's deadline has passed, which ends it too."""

    def __init__(self, limit: int, lifetime_s: float) -> None:
        self._limit = limit
        self._lifetime_s = lifetime_s
        self._ends: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._ends)

    def add(self, job_id: str, now_s: float) -> None:
        """Remember a cancelled job."""
        self._ends[job_id] = now_s + self._lifetime_s
        self._ends.move_to_end(job_id)
        while len(self._ends) > self._limit or next(iter(self._ends.values())) <= now_s:
            self._ends.popitem(last=False)

    def take(self, job_id: str, now_s: float) -> bool:
        """Whether a job was cancelled; it is forgotten by being asked for."""
        return self._ends.pop(job_id, 0.0) > now_s
