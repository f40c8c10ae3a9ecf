"""The evidence of thresholds in Redis: one hash for each organisation and kind of work, replaced version by version."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.answers import IDEMPOTENCY_WINDOW, millis
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import Org

# Evidence that nothing was added to for so long says nothing about the traffic of today.
LIFE: Final = timedelta(days=30)


class RedisEvidence:
    """The EvidenceStore port."""

    def __init__(self, client: RedisClient, names: KeyNames) -> None:
        self._client = client
        self._names = names
        self._replace = client.script(scripts.REPLACE)

    async def load(self, org: Org, category: int) -> tuple[int, bytes]:
        version, value = await self._client.command("HMGET", self._names.evidence(org, category), "n", "v")
        return int(version or 0), value or b""

    async def replace(self, org: Org, category: int, version: int, value: bytes) -> bool:
        keys, args = [self._names.evidence(org, category)], [version, value, millis(LIFE)]
        return int(await self._client.ask(lambda: self._replace(keys=keys, args=args))) > 0

    async def first_report(self, org: Org, report: str) -> bool:
        name = self._names.done(org, report)
        return await self._client.command("SET", name, 1, "NX", "PX", millis(IDEMPOTENCY_WINDOW)) is not None
