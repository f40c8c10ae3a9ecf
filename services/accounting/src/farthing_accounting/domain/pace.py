"""How fast budgets go."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from farthing_accounting.domain.budgets import Limit
from farthing_accounting.domain.windows import Period
from farthing_kit.money import NanoUsd

# Early in a window a single request is a large share of what "should" be spent by then: at least this share of the
# window counts as passed, so that a pace says something.
LEAST_PASSED: Final = 0.05


def budget_pace(limits: Sequence[Limit], left: Sequence[NanoUsd | None], now: datetime) -> float:
    """The share of a budget that is spent or held, divided by the share of its window that has passed, where that is
    greatest. 1: it will just last; 2: it will be gone at half time. 0 when no budget of money applies."""
    paces = [
        (limit.money - money) / limit.money / _passed(limit.counter.period, now)
        for limit, money in zip(limits, left, strict=True)
        if limit.money and money is not None
    ]
    return max(paces, default=0.0)


def _passed(period: Period, now: datetime) -> float:
    share = (now - period.start) / (period.end - period.start)
    return min(max(share, LEAST_PASSED), 1.0)
