"""What stands around each step of Redis."""

from __future__ import annotations

from redis.exceptions import RedisError, ResponseError

from farthing_kit.breaker import Breaker
from farthing_kit.clock import Clock
from farthing_kit.store_guard import StoreGuard


def guarded(breaker: Breaker, clock: Clock, *, timeout_s: float) -> StoreGuard:
    """Loading, read-only, out of memory, unable to write to its disk, an error in a script of ours: the books must go
    on without Redis in each case, but it is there."""
    return StoreGuard(
        "redis",
        "the store of budgets cannot be reached; try again shortly",
        breaker=breaker,
        clock=clock,
        timeout_s=timeout_s,
        said_no=(ResponseError,),
        away=(RedisError,),
    )
