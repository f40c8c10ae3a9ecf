"""Whether a worker runs a job that it was given."""

from __future__ import annotations

from datetime import datetime
from enum import Enum


class Verdict(Enum):
    """What to do with a delivery."""

    RUN = "run"
    ASK = "ask"
    """It was given to a worker before: run it if the caller's replica permits."""
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    EXHAUSTED = "exhausted"
    """As many workers as may died on it; it gets no other."""


def admit(*, attempt: int, max_attempts: int, deadline: datetime, now: datetime, cancelled: bool) -> Verdict:
    """Judge a delivery; `attempt` counts them from 1."""
    if cancelled:
        return Verdict.CANCELLED
    if now >= deadline:
        return Verdict.EXPIRED
    if attempt > max_attempts:
        return Verdict.EXHAUSTED
    return Verdict.RUN if attempt == 1 else Verdict.ASK
