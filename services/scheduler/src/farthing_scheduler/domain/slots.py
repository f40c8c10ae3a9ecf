"""How many jobs a worker asks for: never more than it can start at once."""

from __future__ import annotations


class Slots:
    """The account of one model's slots in one worker: a slot is free, asked for (a pull request at the server may fill
    it any moment), or busy."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.asked = 0
        self.busy = 0

    @property
    def free(self) -> int:
        """Slots to ask for."""
        return max(0, self._limit - self.asked - self.busy)

    def ask(self) -> int:
        """Ask for all free slots, once they are more than those asked for already; returns how many that is. So not
        each job costs a request of its own, and one stands whenever a job could begin: ask after every change."""
        count = self.free
        if count <= self.asked:
            return 0
        self.asked += count
        return count

    def fill(self) -> None:
        """A job arrived."""
        self.asked = max(0, self.asked - 1)
        self.busy += 1

    def give_back(self, count: int) -> None:
        """A pull request ended with this many jobs undelivered."""
        self.asked = max(0, self.asked - count)

    def forget(self) -> None:
        """All pull requests are gone: the connection was lost."""
        self.asked = 0

    def release(self) -> None:
        """A job ended."""
        assert self.busy > 0, "a slot was released twice"
        self.busy -= 1
