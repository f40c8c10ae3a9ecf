"""Around each step of a store: a limit of time, one kind of failure, no wait while the store is known to be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from farthing_kit.breaker import Breaker
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable

_OPEN: Final = "BreakerOpen"

Errors = tuple[type[Exception], ...]


class StoreGuard:
    """One for all that one store is asked; `text` tells callers what to do without it. A step takes at most
    `timeout_s`: less than callers wait for us, or they are gone before it is known that the store hangs. What a caller
    gave up on counts neither way."""

    def __init__(
        self,
        store: str,
        text: str,
        *,
        breaker: Breaker,
        clock: Clock,
        timeout_s: float,
        said_no: Errors,
        away: Errors,
    ) -> None:
        """`said_no` are the errors of a store that is there, `away` all others that it raises; both are failures."""
        self._store = store
        self._text = text
        self._breaker = breaker
        self._clock = clock
        self._timeout_s = timeout_s
        self._said_no = said_no
        self._away: Errors = (*away, TimeoutError, OSError)

    @property
    def open(self) -> bool:
        """Whether the store is left alone."""
        return self._breaker.open

    @asynccontextmanager
    async def step(
        self, *, always: bool = False, timeout_s: float | None = None, counts: bool = True
    ) -> AsyncIterator[None]:
        """Every failure of what runs inside is StoreUnavailable, named by `cause`; while the breaker is open nothing
        runs, unless `always`. With `timeout_s`, this step has another limit; without `counts`, that it found nobody
        says nothing about the store. The text of a failure stays here: it quotes keys and addresses."""
        wait_s = 0.0 if always else self._breaker.wait_s(self._clock.monotonic())
        if wait_s > 0:
            raise self._unavailable(_OPEN, wait_s)
        try:
            async with asyncio.timeout(self._timeout_s if timeout_s is None else timeout_s):
                yield
        except self._said_no as error:
            self._breaker.succeeded()
            raise self._unavailable(type(error).__name__, self._breaker.pause_s) from None
        except self._away as error:
            if counts:
                self._breaker.failed(self._clock.monotonic())
            # It may have been done, or may be yet, when the store goes on.
            raise self._unavailable(type(error).__name__, self._breaker.pause_s, outcome="unknown") from None
        self._breaker.succeeded()

    def _unavailable(self, cause: str, retry_after_s: float, **more: str) -> StoreUnavailable:
        return StoreUnavailable(
            self._text, metadata={"store": self._store, "cause": cause, **more}, retry_after_s=retry_after_s
        )
