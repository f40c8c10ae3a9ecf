"""Whom an API key belongs to, and under which policy it is served."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from farthing_accounting.domain.errors import KeyInvalid, KeyRevoked
from farthing_accounting.domain.keys import ApiKey, KeyHasher, KeyRecord, KeyState
from farthing_accounting.domain.policy import Policy
from farthing_accounting.domain.principal import Principal
from farthing_accounting.ports import Keys
from farthing_kit.clock import Clock


@dataclass(frozen=True, slots=True)
class Grant:
    """The answer to a valid key; it may be kept for `time_to_live`."""

    principal: Principal
    policy: Policy
    time_to_live: timedelta


class Authorizing:
    """Reads the store each time: gateways keep answers, so this is not on the way of every request."""

    def __init__(self, keys: Keys, hasher: KeyHasher, clock: Clock, *, time_to_live: timedelta) -> None:
        self._keys = keys
        self._hasher = hasher
        self._clock = clock
        self._time_to_live = time_to_live

    async def authorize(self, text: str) -> Grant:
        """Malformed, unknown and wrong look the same, and take the same work."""
        key = ApiKey.parse(text)
        if key is None:
            raise KeyInvalid
        found = await self._keys.find(key.id)
        if not self._hasher.matches(key, found[1] if found else None) or found is None:
            raise KeyInvalid
        record, _, policy = found
        now = self._clock.now()
        if record.state(now) is not KeyState.ACTIVE:
            raise KeyRevoked(key.id)
        return Grant(record.principal, policy, self._keep_for(record, now))

    def _keep_for(self, record: KeyRecord, now: datetime) -> timedelta:
        """Never longer than the key lives."""
        if record.expire_time is None:
            return self._time_to_live
        return min(self._time_to_live, record.expire_time - now)
