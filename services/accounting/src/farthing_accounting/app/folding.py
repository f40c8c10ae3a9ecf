"""Folding usage events into the ledger: booked, then settled, then acknowledged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from farthing_accounting.domain.ledger import Booking, Unbookable, book
from farthing_accounting.domain.reservations import Settlement
from farthing_accounting.domain.usage import Void
from farthing_accounting.ports import (
    Delivery,
    Ledger,
    Observer,
    Posted,
    PostedState,
    Reservations,
    Unpostable,
    Unsettled,
    UsageStream,
)
from farthing_kit import tasks
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError, StoreUnavailable

FIRST_WAIT_S: Final = 0.1
LONGEST_WAIT_S: Final = 5.0
LATE_BATCH: Final = 256
LATE_INTERVAL_S: Final = 1.0
CONFLICT: Final = "another event was booked under this request id"

T = TypeVar("T")


class Stopping(Exception):
    """Asked to stop while a store is away: what is not acknowledged is delivered again."""


@dataclass(frozen=True, slots=True)
class Item:
    """An event that can be booked, and the message that brought it."""

    delivery: Delivery
    booking: Booking


@dataclass(frozen=True, slots=True)
class Voided:
    """A void, and the message that brought it."""

    delivery: Delivery
    void: Void


class Folding:
    """One batch at a time: a commit, a round trip to Redis, then the acknowledgements.

    Whatever dies in between, the events come again: those that are in the books are not booked again, and their
    settlement is done by recounting, which is right whether it had been done or not. A void is in no book: its
    reservation is given back, which may be done twice."""

    def __init__(
        self,
        stream: UsageStream,
        ledger: Ledger,
        reservations: Reservations,
        unsettled: Unsettled,
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._stream = stream
        self._ledger = ledger
        self._reservations = reservations
        self._unsettled = unsettled
        self._clock = clock
        self._observer = observer
        self._stop = asyncio.Event()
        self._ended = asyncio.Event()

    async def run(self) -> None:
        """Fold until asked to stop."""
        try:
            while not self._stop.is_set():
                await self.fold(await self._stream.take())
        except Stopping:
            pass
        finally:
            self._ended.set()

    async def stop(self) -> None:
        """Take no more, and wait until the batch at hand is done."""
        self._stop.set()
        await self._ended.wait()

    async def fold(self, deliveries: Sequence[Delivery]) -> None:
        """Book, settle and acknowledge one batch."""
        read = [one for delivery in deliveries if (one := await self._readable(delivery)) is not None]
        if items := [one for one in read if isinstance(one, Item)]:
            posted = await self._post(items)
            await self._settle(posted)
            for item, result in posted:
                if result.state is PostedState.CONFLICT:
                    await self._bury(item.delivery, CONFLICT)
                else:
                    await self._done(item.delivery, result.state.value)
        await self._release([one for one in read if isinstance(one, Voided)])

    async def settle_late(self) -> None:
        """For ever: do what had to wait for Redis."""
        while True:
            try:
                while done := await self._unsettled.settle_some(self._recount, LATE_BATCH):
                    self._observer.folded("settled_late", done)
                while done := await self._unsettled.release_some(self._reservations.release, LATE_BATCH):
                    self._observer.folded("released_late", done)
            except StoreUnavailable:
                pass
            await self._clock.sleep(LATE_INTERVAL_S)

    async def _done(self, delivery: Delivery, result: str) -> None:
        self._observer.folded(result, 1)
        if delivery.mended:
            self._observer.folded("mended", 1)
        await delivery.done()

    async def _readable(self, delivery: Delivery) -> Item | Voided | None:
        fault, event = delivery.fault, delivery.event
        if isinstance(event, Void):
            return Voided(delivery, event)
        if event is not None:
            try:
                return Item(delivery, book(event))
            except Unbookable as error:
                fault = str(error)
        await self._bury(delivery, fault)
        return None

    async def _post(self, items: Sequence[Item]) -> list[tuple[Item, Posted]]:
        """In one commit; when the books refuse something in it, in two halves, until only the culprit is left out."""
        try:
            posted = await self._until_kept(lambda: self._commit(items), [item.delivery for item in items])
        except Unpostable as error:
            if len(items) == 1:
                await self._bury(items[0].delivery, str(error))
                return []
            middle = len(items) // 2
            return await self._post(items[:middle]) + await self._post(items[middle:])
        return list(zip(items, posted, strict=True))

    async def _commit(self, items: Sequence[Item]) -> Sequence[Posted]:
        started = self._clock.monotonic()
        posted = await self._ledger.post([item.booking for item in items])
        self._observer.booked(self._clock.monotonic() - started)
        return posted

    async def _settle(self, posted: Sequence[tuple[Item, Posted]]) -> None:
        """Those that were just booked are added; of those that come again nobody knows whether they were."""
        results = [result for _, result in posted]
        first = [one for result in results if result.state is PostedState.BOOKED for one in result.settlements]
        again = [one for result in results if result.state is PostedState.REPEATED for one in result.settlements]
        try:
            await self._reservations.settle(first)
            await self._recount(again)
        except StoreUnavailable:
            deliveries = [item.delivery for item, _ in posted]
            await self._until_kept(lambda: self._unsettled.remember([*first, *again]), deliveries)

    async def _release(self, voided: Sequence[Voided]) -> None:
        """What was settled before stays settled."""
        for place, one in enumerate(voided):
            try:
                await self._reservations.release(one.void.org, one.void.reservation_id)
            except StoreUnavailable:
                await self._remember(voided[place:])
                break
        for one in voided:
            await self._done(one.delivery, "voided")

    async def _remember(self, voided: Sequence[Voided]) -> None:
        voids = [one.void for one in voided]
        await self._until_kept(lambda: self._unsettled.remember_voids(voids), [one.delivery for one in voided])

    async def _until_kept(self, keep: Callable[[], Awaitable[T]], deliveries: Sequence[Delivery]) -> T:
        """PostgreSQL is waited for, however long; Redis is not: the books go on without it."""
        wait_s = FIRST_WAIT_S
        while True:
            try:
                return await keep()
            except StoreUnavailable:
                await self._wait(wait_s, deliveries)
                wait_s = min(2 * wait_s, LONGEST_WAIT_S)

    async def _recount(self, settlements: Sequence[Settlement]) -> None:
        await self._reservations.settle(settlements, recount=True)

    async def _wait(self, seconds: float, deliveries: Sequence[Delivery]) -> None:
        """Between two attempts at a store: the stream is told that the batch is still being worked on."""
        for delivery in deliveries:
            await delivery.renew()
        waking = {
            tasks.awaited("pause", self._clock.sleep(seconds)),
            tasks.awaited("stop", self._stop.wait()),
        }
        try:
            await asyncio.wait(waking, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in waking:
                task.cancel()
        if self._stop.is_set():
            raise Stopping

    async def _bury(self, delivery: Delivery, reason: str) -> None:
        """Counted, and kept with its reason, or dropped where there is no room. Where it may be kept later it is not
        acknowledged: it comes again."""
        try:
            kept = await delivery.bury(reason)
        except FarthingError:
            self._observer.folded("unburied", 1)
        else:
            self._observer.folded("buried" if kept else "dropped", 1)
