"""What the cache needs from outside."""

from __future__ import annotations

from datetime import timedelta
from typing import Protocol

from farthing_cache.domain.answer import Answer, CacheKey, Entry, Epoch, Org


class AnswerStore(Protocol):
    """Answers by organisation and key, in partitions that can be forgotten at once.

    A partition has an epoch: a number that only ever grows. Entries belong to the epoch they were kept in. Every method
    is one atomic step, and raises StoreUnavailable within milliseconds when the store cannot be reached.
    """

    async def find(self, org: Org, key: CacheKey) -> tuple[Epoch, Entry | None]:
        """The epoch of the partition, and the entry of that epoch if there is one."""
        ...

    async def keep(self, org: Org, key: CacheKey, answer: Answer, epoch: Epoch, time_to_live: timedelta) -> bool:
        """Keep an answer if the partition is still in `epoch` and there is room; whether it was kept. Renews an
        entry."""
        ...

    async def forget(self, org: Org, idempotency_key: str) -> Epoch:
        """Move the partition to a new epoch, once for each key within a day; the epoch that came of it."""
        ...


class Announcer(Protocol):
    """Tells the gateways what their memories must forget."""

    async def forgotten(self, org: Org) -> None:
        """Returns when the word is out; raises StoreUnavailable when it is not."""
        ...


class Meter(Protocol):
    """Shows what happened to whoever watches."""

    def looked_up(self, *, hit: bool) -> None:
        """A look-up ended with or without an answer."""
        ...

    def stored(self, *, kept: bool) -> None:
        """An answer was kept, or came too late, or found no room."""
        ...

    def failed(self) -> None:
        """A call failed because the store could not be reached."""
        ...
