"""When to stop asking a store that does not answer, and when to try it again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Breaker:
    """Opens after `threshold` failures in a row; once every `pause_s` lets one call through to see whether it is over.

    Without it every request would wait out a timeout while the store hangs. Times are seconds of one monotonic clock.
    """

    threshold: int
    pause_s: float
    _failures: int = 0
    _closed_until_s: float = 0.0

    @property
    def open(self) -> bool:
        """Whether the store is left alone."""
        return self._failures >= self.threshold

    def wait_s(self, now_s: float) -> float:
        """0 when a call may go ahead, which counts as the one to try while open; else how long to stay away."""
        if not self.open:
            return 0.0
        if now_s < self._closed_until_s:
            return self._closed_until_s - now_s
        self._closed_until_s = now_s + self.pause_s
        return 0.0

    def succeeded(self) -> None:
        """A call came back."""
        self._failures = 0

    def failed(self, now_s: float) -> None:
        """A call did not."""
        self._failures += 1
        if self.open:
            self._closed_until_s = now_s + self.pause_s
