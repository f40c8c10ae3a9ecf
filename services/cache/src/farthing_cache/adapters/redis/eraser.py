"""Takes every key of an organisation out of Redis."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Org
from farthing_kit.errors import StoreUnavailable

# Keys that are looked at in one step: a millisecond or less of Redis.
STEP_KEYS: Final = 1_000


class RedisEraser:
    """The Eraser port. All names of an organisation begin alike; finding them takes a look at every key there is, in
    steps between which others are served."""

    def __init__(self, client: RedisClient, names: KeyNames) -> None:
        self._client = client
        self._names = names

    async def erase(self, org: Org) -> int:
        gone, cursor = 0, 0
        while True:
            cursor, names = await self._client.command(
                *("SCAN", cursor, "MATCH", f"{self._names.partition(org)}:*", "COUNT", STEP_KEYS)
            )
            if names:
                gone += int(await self._client.command("UNLINK", *names))
            if not int(cursor):
                break
        if gone:
            await self._rewrite()
        return gone

    async def _rewrite(self) -> None:
        """What was erased is in Redis's file until that is written anew, which takes a while in the background. A
        rewrite that is under way already ends with a file that may have it: Redis starts another when it is asked."""
        if b"aof_enabled:1" in await self._persistence():
            with suppress(StoreUnavailable):
                await self._client.command("BGREWRITEAOF")

    async def _persistence(self) -> bytes:
        said = await self._client.command("INFO", "persistence")
        return said if isinstance(said, bytes) else b"aof_enabled:%d" % int(said.get("aof_enabled", 0))
