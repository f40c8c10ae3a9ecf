"""Removes all that is kept of an organisation: not only so that it is never served, but so that it is not there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from farthing_cache.domain.answer import Org
from farthing_cache.ports import Announcer, Eraser

# Times that a store is gone through. More are needed only while somebody goes on asking in the organisation's name.
PASSES: Final = 5


@dataclass(frozen=True)
class Erasure:
    """Takes the organisation out of the memories first: what they hold would else be written again."""

    store: Eraser
    announcer: Announcer

    async def erase(self, org: Org) -> int:
        """Erase; how many keys of the store went. 0, for a repetition, says that nothing was left."""
        await self.announcer.erased(org)
        gone = 0
        for _ in range(PASSES):
            found = await self.store.erase(org)
            gone += found
            if not found:
                break
        return gone
