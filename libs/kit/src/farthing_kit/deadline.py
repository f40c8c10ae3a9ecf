"""How much time the work at hand has left, carried through every await."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

# A client gives the next hop this much less than it has itself, so that a good error can travel back in time.
MARGIN_S: Final = 0.020

_deadline: ContextVar[float | None] = ContextVar("farthing_deadline", default=None)


def remaining_s() -> float | None:
    """Seconds until the deadline of the work at hand, negative once it has passed; None where there is none."""
    moment = _deadline.get()
    return None if moment is None else moment - time.monotonic()


def set_remaining(seconds: float | None) -> None:
    """Start a deadline for the current task; None means there is none. The server does this for each call."""
    _deadline.set(None if seconds is None else time.monotonic() + seconds)


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Give what runs inside at most `seconds`, never more than is left already. It bounds calls; it cancels nothing."""
    moment = time.monotonic() + seconds
    outer = _deadline.get()
    token = _deadline.set(moment if outer is None else min(moment, outer))
    try:
        yield
    finally:
        _deadline.reset(token)
