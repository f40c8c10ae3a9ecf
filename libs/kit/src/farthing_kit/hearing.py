"""Whether a process has heard all that core NATS was told to tell it, up to a moment ago.

Who keeps things in memory that others may say are over (answers, keys) uses them only while it is `current`. Who says
so waits LEASE_S after NATS took its word: by then each of them has heard, or uses nothing, however the network is.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from farthing_kit import nats as kit_nats
from farthing_kit.clock import Clock
from farthing_kit.telemetry import Telemetry

# How old the proof may be that everything was heard. All who listen and all who tell must have the same.
LEASE_S: Final = 1.0
PAUSE_S: Final = LEASE_S / 5
FIRST_WAIT_S: Final = 2
_SUBJECT: Final = "farthing.hearing."


class Hearing:
    """Sends itself a word, again and again. NATS delivers to a connection in order: when the word is back, so is all
    that was said before it was sent."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock
        self._subject = _SUBJECT + secrets.token_hex(8)
        self._heard: tuple[int, float] = (-1, float("-inf"))

    @property
    def current(self) -> bool:
        """Whether what was said LEASE_S ago has been heard."""
        return self.unbroken is not None

    @property
    def unbroken(self) -> int | None:
        """The connection, by number, on which all was heard since its first word was back; None while not current.
        What was said between two connections was heard on neither."""
        connection, heard_s = self._heard
        now_s = self._clock.monotonic()
        is_it = self._client.is_connected and connection == self._client.stats["reconnects"]
        return connection if is_it and now_s - heard_s < LEASE_S else None

    async def listen(self, telemetry: Telemetry) -> None:
        """Subscribe, and be current; the subscription ends with the connection. After those whose messages are to be in
        time."""
        await kit_nats.subscribe(self._client, telemetry, self._subject, self._on_word)
        await self._say()
        with contextlib.suppress(nats.errors.Error, OSError, TimeoutError):
            await self._client.flush(FIRST_WAIT_S)

    async def keep(self) -> None:
        """Keep it current; runs until cancelled."""
        while True:
            await self._say()
            await self._clock.sleep(PAUSE_S)

    async def _say(self) -> None:
        with contextlib.suppress(nats.errors.Error, OSError):  # away: it lapses
            word = f"{self._client.stats['reconnects']} {self._clock.monotonic()!r}"
            await self._client.publish(self._subject, word.encode())

    async def _on_word(self, message: Msg) -> None:
        connection, said_s = message.data.split()
        self._heard = max(self._heard, (int(connection), float(said_s)))
