"""Whether NATS can be reached: notices when the connection is lost, and does what is due when it is back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from nats.aio.client import Client

from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import logs
from farthing_scheduler.adapters.queue import connection_life

INTERVAL_S: Final = 0.1

_log = logs.get("scheduler.link")


class Link:
    """Looks at the connection a few times a second: nats-py comes back by itself, but pull requests do not, and a
    restarted server has forgotten its streams in memory. `back` is told in which life the connection is now."""

    def __init__(
        self,
        client: Client,
        clock: Clock,
        *,
        lost: Callable[[], Awaitable[None]],
        back: Callable[[int], Awaitable[None]],
    ) -> None:
        self._client = client
        self._clock = clock
        self._lost = lost
        self._back = back
        self._is_up = True
        self._has_warned = False
        self._life = connection_life(client)

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            await self._clock.sleep(INTERVAL_S)
            await self.look()

    async def look(self) -> None:
        """Notice what changed since the last look."""
        is_connected = self._client.is_connected
        if self._is_up and (not is_connected or connection_life(self._client) != self._life):
            self._is_up = False
            await self._lost()
        if is_connected and not self._is_up:
            self._life = connection_life(self._client)
            try:
                await self._back(self._life)
            except FarthingError as error:
                if not self._has_warned:
                    _log.warning("NATS is back but not ready; trying again", reason=error.reason_name)
                self._has_warned = True
                return
            self._is_up, self._has_warned = True, False
