"""Tells the gateways over core NATS what to forget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import nats.errors
from nats.aio.client import Client

from farthing_cache.domain.answer import Org
from farthing_cache.domain.errors import gateways_not_told
from farthing_kit.clock import Clock
from farthing_kit.hearing import LEASE_S

SUBJECT: Final = "farthing.invalidate.cache"
PREFIX: Final = "org:"
# Payload: the organisation. For replicas of the cache; gateways hear the other.
ERASURE_SUBJECT: Final = "farthing.erase.cache"
FLUSH_TIMEOUT_S: Final = 1


class NatsAnnouncer:
    """The Announcer port. The payload is `org:<organisation>`, as on `farthing.invalidate.keys`. When NATS has the
    word, a gateway that has not heard it yet may serve from its memory for LEASE_S more: that is waited for."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def forgotten(self, org: Org) -> None:
        await self._told(org, {SUBJECT: PREFIX})

    async def erased(self, org: Org) -> None:
        await self._told(org, {ERASURE_SUBJECT: "", SUBJECT: PREFIX})

    async def _told(self, org: Org, subjects: Mapping[str, str]) -> None:
        try:
            for subject, prefix in subjects.items():
                await self._client.publish(subject, f"{prefix}{org}".encode())
            await self._client.flush(FLUSH_TIMEOUT_S)
        except (nats.errors.Error, OSError, TimeoutError):
            raise gateways_not_told() from None
        await self._clock.sleep(LEASE_S)
