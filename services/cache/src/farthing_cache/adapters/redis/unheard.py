"""Claims that were sent to Redis, and whose outcome nobody heard: given back, or others would wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Org
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable

# Claims that wait to be given back; beyond, a lease ends by itself.
LIMIT: Final = 1_000
PAUSE_S: Final = 0.25
# How much later than its being given back a claim may still arrive, and claim nothing.
REMEMBERED: Final = timedelta(minutes=1)


class Unheard:
    """The claims of one replica that it does not know the outcome of. After a partition they may be under way still."""

    def __init__(self, client: RedisClient, names: KeyNames) -> None:
        self._client = client
        self._names = names
        self._unclaim = client.script(scripts.UNCLAIM)
        self._waiting: asyncio.Queue[tuple[Org, str, bytes]] = asyncio.Queue(LIMIT)

    async def heard(self, org: Org, suffix: str, token: bytes, step: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of a step that claims. Whatever keeps it from being heard, the claim is not held on to."""
        sent = False

        def send() -> Awaitable[Any]:
            nonlocal sent
            sent = True
            return step()

        try:
            return await self._client.ask(send)
        except (StoreUnavailable, asyncio.CancelledError):
            if sent and not self._waiting.full():
                self._waiting.put_nowait((org, suffix, token))
            raise

    async def give_back(self, clock: Clock) -> None:
        """Give them back as soon as Redis answers; runs until cancelled."""
        while True:
            claim = await self._waiting.get()
            while not await self._given_back(*claim):
                await clock.sleep(PAUSE_S)

    async def _given_back(self, org: Org, suffix: str, token: bytes) -> bool:
        keys = [self._names.state(org), self._names.void(org, token)]
        args = [self._names.partition(org), suffix, token, round(REMEMBERED.total_seconds() * 1000)]
        try:
            await self._client.ask(lambda: self._unclaim(keys=keys, args=args))
        except StoreUnavailable:
            return False
        return True
