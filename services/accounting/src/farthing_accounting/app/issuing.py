"""Making API keys and ending them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime

from farthing_accounting.domain.errors import unknown_key
from farthing_accounting.domain.keys import ID_BYTES, SECRET_BYTES, ApiKey, KeyHasher, KeyId, KeyRecord
from farthing_accounting.domain.principal import Principal
from farthing_accounting.ports import Announcer, Keys, WriteOnce
from farthing_kit.clock import Clock
from farthing_kit.hearing import LEASE_S


class Issuing:
    """Keys for principals. `random` gives that many unpredictable bytes."""

    def __init__(
        self, keys: Keys, hasher: KeyHasher, announcer: Announcer, clock: Clock, random: Callable[[int], bytes]
    ) -> None:
        self._keys = keys
        self._hasher = hasher
        self._announcer = announcer
        self._clock = clock
        self._random = random

    async def create(
        self, principal: Principal, expire_time: datetime | None, once: WriteOnce
    ) -> tuple[KeyRecord, ApiKey | None]:
        """The key, with its secret the first time only."""
        key = ApiKey.made_of(self._random(ID_BYTES + SECRET_BYTES))
        record = KeyRecord(replace(principal, key_id=key.id), self._clock.now(), expire_time)
        kept, new = await self._keys.add(record, self._hasher.hash(key), once)
        return kept, key if new else None

    async def of_org(self, org: str) -> Sequence[KeyRecord]:
        """Oldest first."""
        return await self._keys.of_org(org)

    async def revoke(self, key_id: KeyId) -> KeyRecord:
        """Ends the key, then tells every gateway; told again when it is revoked again, should the first have failed.
        Returns once each has heard it, or asks again before it serves anybody under that key."""
        record = await self._keys.revoke(key_id)
        if record is None:
            raise unknown_key(key_id)
        await self._announcer.announce(key_id)
        await self._clock.sleep(LEASE_S)
        return record
