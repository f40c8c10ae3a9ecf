"""What thresholds rest on, shared by all replicas: a guard for each organisation and kind of work."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from farthing_cache.domain.answer import Org
from farthing_cache.domain.bound import Decision, Guard, Promise, Standing
from farthing_cache.domain.shared_guard import merged
from farthing_cache.ports import EvidenceStore
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable

# Guards in memory; others are written, and read again.
LIMIT: Final = 2_048
# Replicas that write at once try again so often; then the next round adds it.
ATTEMPTS: Final = 5


@dataclass
class _Held:
    """A guard, what of it was in the store when it was last read, and whether it has moved since."""

    guard: Guard
    version: int
    base: dict[str, Any]
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one kind of work, δ, and how many of the labels that are remembered said wrong."""

    standing: Standing
    delta: float
    wrong: int


class Evidence:
    """Decisions are made from memory; what they and the labels add up to is written every `pace_s`, added to what the
    other replicas have written. Between two rounds a replica does not see the others' newest hits: their number
    within one round is what the bound may be exceeded by."""

    def __init__(
        self,
        store: EvidenceStore,
        promise: Promise,
        clock: Clock,
        *,
        pace_s: float,
        fraction: Callable[[], float],
        limit: int = LIMIT,
    ) -> None:
        self._store = store
        self._promise = promise
        self._clock = clock
        self._pace_s = pace_s
        self._fraction = fraction
        self._limit = limit
        self._held: OrderedDict[tuple[Org, int], _Held] = OrderedDict()

    async def observe(self, org: Org, category: int, delta: float) -> None:
        """Count a request without a candidate."""
        await self._observed(org, category, delta)

    async def decide(self, org: Org, category: int, delta: float, score: float) -> tuple[Decision, float]:
        """Count a request, and say what to do with its best candidate; beside it the threshold that holds now."""
        guard = await self._observed(org, category, delta)
        return guard.decide(score, self._fraction()), guard.standing().threshold

    async def first_report(self, org: Org, report: str) -> bool:
        """Whether a report is made for the first time."""
        return await self._store.first_report(org, report)

    async def label(
        self, org: Org, category: int, score: float, *, explored: bool, right: bool, propensity: float, period: int
    ) -> None:
        """Count what became of a candidate."""
        held = await self._hold(org, category, None)
        held.moved = True
        held.guard.label(score, explored=explored, right=right, propensity=propensity, period=period)

    async def standings(self, org: Org, categories: Iterable[int]) -> list[tuple[int, Known]]:
        """What is known of each kind of work that was asked about."""
        known = []
        for category in categories:
            delta = None
            if (old := self._held.get((org, category))) is not None and not old.moved:
                delta = old.guard.promise.delta
                del self._held[org, category]  # others may know more by now
            held = await self._hold(org, category, delta)
            standing = held.guard.standing()
            if standing.requests:
                wrong = round(sum(held.guard.wrong))
                known.append((category, Known(standing, held.guard.promise.delta, wrong)))
        return known

    def erase(self, org: Org) -> None:
        """Forget what this replica has seen of an organisation, written or not."""
        for address in [address for address in self._held if address[0] == org]:
            del self._held[address]

    async def keep_writing(self) -> None:
        """Write what has moved, at a pace; runs until cancelled."""
        while True:
            await self._clock.sleep(self._pace_s)
            await self.write()

    async def write(self) -> None:
        """Write what has moved. A store that is away is tried again in the next round: nothing is lost meanwhile."""
        for (org, category), held in list(self._held.items()):
            if held.moved:
                try:
                    await self._write(org, category, held)
                except StoreUnavailable:
                    return

    async def _write(self, org: Org, category: int, held: _Held) -> None:
        for _ in range(ATTEMPTS):
            if self._held.get((org, category)) is not held:
                return  # erased meanwhile
            version, stored = await self._store.load(org, category)
            theirs = _parsed(stored, held.guard.promise) or Guard.new(held.guard.promise)
            mine, base = held.guard.to_state(), held.base
            sum_of_both = merged(base, mine, theirs.to_state())
            if await self._store.replace(org, category, version, json.dumps(sum_of_both).encode()):
                # What happened here while the store was asked is not in the sum yet.
                meanwhile = merged(mine, held.guard.to_state(), sum_of_both)
                held.guard = Guard.from_state(meanwhile, held.guard.promise)
                held.version, held.base, held.moved = version + 1, sum_of_both, meanwhile != sum_of_both
                return

    async def _observed(self, org: Org, category: int, delta: float) -> Guard:
        held = await self._hold(org, category, delta)
        held.moved = True
        held.guard.observe_request()
        return held.guard

    async def _hold(self, org: Org, category: int, delta: float | None) -> _Held:
        held = self._held.get((org, category))
        if held is None:
            held = await self._load(org, category, delta)
        self._held.move_to_end((org, category))
        if delta is not None and delta != held.guard.promise.delta:
            held.guard.promise = replace(held.guard.promise, delta=delta)
        return held

    async def _load(self, org: Org, category: int, delta: float | None) -> _Held:
        await self._make_room()
        version, stored = await self._store.load(org, category)
        if (held := self._held.get((org, category))) is not None:
            return held  # another call was faster
        promise = self._promise if delta is None else replace(self._promise, delta=delta)
        guard = _parsed(stored, promise) or Guard.new(promise)
        held = self._held[org, category] = _Held(guard, version, guard.to_state())
        return held

    async def _make_room(self) -> None:
        """Let guards go, first those that were used the longest ago, and none before what moved of it is written."""
        for address, held in list(self._held.items()):
            if len(self._held) < self._limit:
                return
            if held.moved:
                await self._write(*address, held)
            if not held.moved and self._held.get(address) is held:
                del self._held[address]


def _parsed(stored: bytes, promise: Promise) -> Guard | None:
    """A guard as it was written; None for nothing, or for what another version wrote: evidence begins anew."""
    if not stored:
        return None
    try:
        return Guard.from_state(json.loads(stored), promise)
    except (ValueError, TypeError, KeyError):
        return None
