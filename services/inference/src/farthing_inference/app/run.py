"""One attempt of a generation on one server, from the first to the last token, counted and measured."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from farthing_inference.domain.errors import EngineFailed, ServerFailure
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.generation import Progress
from farthing_inference.domain.pools import Placement
from farthing_inference.ports import Meter
from farthing_kit.clock import Clock
from farthing_kit.errors import DeadlineExceeded, FarthingError


class Run:
    """Holds a server's place from its making until `close`. Iterating gives all progress, up to the one with the finish
    reason."""

    def __init__(
        self, placement: Placement, stream: AsyncGenerator[Progress, None], fleet: Fleet, meter: Meter, clock: Clock
    ) -> None:
        self.placement = placement
        self._stream = stream
        self._fleet = fleet
        self._meter = meter
        self._clock = clock
        self._began = clock.monotonic()
        self._first_at: float | None = None
        self._last = Progress("", 0, 0)
        self._outcome = "cancelled"
        self._open = True
        fleet.begin(placement)

    def __aiter__(self) -> Run:
        return self

    async def __anext__(self) -> Progress:
        if self._last.finish is not None:
            raise StopAsyncIteration
        await self._next()
        if self._first_at is None and self._last.output_tokens:
            self._first_at = self._clock.monotonic()
            self._meter.first_token(self.placement, self._first_at - self._began)
        return self._last

    async def close(self) -> None:
        """Give the place back and stop the model if it still runs. A second time does nothing."""
        if not self._open:
            return
        self._open = False
        self._fleet.end(self.placement)
        now = self._clock.monotonic()
        after_first_s = 0.0 if self._first_at is None else now - self._first_at
        self._meter.ended(self.placement, self._outcome, self._last.usage, now - self._began, after_first_s)
        await self._stream.aclose()

    async def _next(self) -> None:
        try:
            self._last = await anext(self._stream)
        except StopAsyncIteration:
            self._outcome = "failed"
            raise EngineFailed("ended without a finish reason") from None
        except (ServerFailure, FarthingError) as error:
            self._outcome = _outcome(error)
            raise
        if self._last.finish is not None:
            self._outcome = self._last.finish.value


def _outcome(error: Exception) -> str:
    if isinstance(error, ServerFailure):
        return "failed"
    return "deadline" if isinstance(error, DeadlineExceeded) else "refused"
