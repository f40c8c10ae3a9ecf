"""Forgetting a tenant: its keys, its limits, and whom it used the mesh for; what it spent stays."""

from __future__ import annotations

from farthing_accounting.ports import Announcer, Erased, Forgetting, Tenants
from farthing_kit.clock import Clock
from farthing_kit.hearing import LEASE_S


class Erasing:
    """For one organisation. What is in flight meanwhile is booked later, with names: done again, it is erased too."""

    def __init__(self, tenants: Tenants, stream: Forgetting, announcer: Announcer, clock: Clock) -> None:
        self._tenants = tenants
        self._stream = stream
        self._announcer = announcer
        self._clock = clock

    async def erase(self, org: str) -> Erased:
        """The keys first, so that nothing new begins: no gateway serves under one of them when the rest is erased."""
        keys = await self._tenants.end_keys(org)
        await self._announcer.announce(f"org:{org}")
        await self._clock.sleep(LEASE_S)
        erased = await self._tenants.erase(org, keys)
        await self._stream.forget(org)
        return erased
