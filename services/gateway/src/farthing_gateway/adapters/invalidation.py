"""What the mesh says must be forgotten, heard on core NATS."""

from __future__ import annotations

from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from farthing_gateway.domain.grants import Grants
from farthing_gateway.domain.nearcache import NearCache
from farthing_kit import nats
from farthing_kit.clock import Clock
from farthing_kit.hearing import Hearing
from farthing_kit.telemetry import Telemetry

# Payload: the public id of a key, or `org:<organisation>` for all its keys and its policy.
KEYS_SUBJECT: Final = "farthing.invalidate.keys"
# Payload: `org:<organisation>`.
CACHE_SUBJECT: Final = "farthing.invalidate.cache"
ORG_PREFIX: Final = "org:"


class NatsInvalidation:
    """Forgets what it hears, and the InvalidationLine port. Core NATS keeps nothing for who is not listening: after a
    reconnection something may have been missed."""

    def __init__(self, client: Client, grants: Grants, caches: tuple[NearCache, ...], clock: Clock) -> None:
        self._client = client
        self._hearing = Hearing(client, clock)
        self._grants = grants
        self._caches = caches

    def era(self) -> int | None:
        """How often the connection came back; None while it is away."""
        return self._client.stats["reconnects"] if self._client.is_connected else None

    def current(self) -> bool:
        """Whether everything has been heard that those who wait for us to hear it have said."""
        return self._hearing.current

    def unbroken(self) -> int | None:
        return self._hearing.unbroken

    async def keep_current(self) -> None:
        """Keep making sure of it; runs until cancelled."""
        await self._hearing.keep()

    async def listen(self, telemetry: Telemetry) -> None:
        """Subscribe; the subscriptions end with the connection."""
        await nats.subscribe(self._client, telemetry, KEYS_SUBJECT, self._on_key)
        await nats.subscribe(self._client, telemetry, CACHE_SUBJECT, self._on_cache)
        await self._hearing.listen(telemetry)

    async def _on_key(self, message: Msg) -> None:
        said = message.data.decode()
        if said.startswith(ORG_PREFIX):
            self._grants.forget_org(said.removeprefix(ORG_PREFIX))
        else:
            self._grants.forget_key(said)

    async def _on_cache(self, message: Msg) -> None:
        org = message.data.decode().removeprefix(ORG_PREFIX)
        for cache in self._caches:
            cache.forget(org)
