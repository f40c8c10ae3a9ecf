"""Around each step of Redis: a limit of time, one kind of failure, and no wait while Redis is known to be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from redis.exceptions import RedisError, ResponseError

from farthing_kit.breaker import Breaker
from farthing_kit.clock import Clock, SystemClock
from farthing_kit.errors import StoreUnavailable

# Away, loading, read-only, out of memory, unable to write to its disk: to us it is all the same. An error in a script
# of ours is among them, named by `cause`: the books must go on without Redis in that case too.
_FAILURES: Final = (RedisError, TimeoutError, OSError)
_OPEN: Final = "BreakerOpen"


class Guard:
    """One for all that one Redis is asked. A step takes at most `timeout_s`: less than callers wait for us, or they are
    gone before it is known that Redis hangs. What a caller gave up on counts neither way."""

    def __init__(self, breaker: Breaker | None = None, clock: Clock | None = None, *, timeout_s: float = 2.0) -> None:
        self._breaker = breaker or Breaker(threshold=3, pause_s=0.5)
        self._clock = clock or SystemClock()
        self._timeout_s = timeout_s

    @property
    def open(self) -> bool:
        """Whether Redis is left alone."""
        return self._breaker.open

    @asynccontextmanager
    async def step(self, *, always: bool = False) -> AsyncIterator[None]:
        """Every failure of what runs inside is StoreUnavailable; while the breaker is open nothing runs, unless
        `always`. The text of a failure stays here: it quotes keys and addresses."""
        wait_s = 0.0 if always else self._breaker.wait_s(self._clock.monotonic())
        if wait_s > 0:
            raise _unavailable(_OPEN, wait_s)
        try:
            async with asyncio.timeout(self._timeout_s):
                yield
        except ResponseError as error:
            self._breaker.succeeded()  # it is there, and said no
            raise _unavailable(type(error).__name__, self._breaker.pause_s) from error
        except _FAILURES as error:
            self._breaker.failed(self._clock.monotonic())
            # Redis may have done it, or may yet, when it goes on.
            raise _unavailable(type(error).__name__, self._breaker.pause_s, outcome="unknown") from error
        self._breaker.succeeded()


def _unavailable(cause: str, retry_after_s: float, **more: str) -> StoreUnavailable:
    return StoreUnavailable(
        "the store of budgets cannot be reached; try again shortly",
        metadata={"store": "redis", "cause": cause, **more},
        retry_after_s=retry_after_s,
    )
