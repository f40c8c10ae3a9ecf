"""Bringing counters in Redis up to the ledger: after a loss of Redis, for a new budget, at the start of a window."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from farthing_accounting.app.fresh import SingleFlight
from farthing_accounting.domain.reservations import CountersMissing
from farthing_accounting.ports import Ledger, Reservations
from farthing_kit.errors import StoreUnavailable

# The ledger moves on while it is read, and many ask for counters at once; each round makes progress for someone.
MAX_ROUNDS: Final = 8
T = TypeVar("T")


class CounterLoading:
    """Loads what is missing, once however many need it."""

    def __init__(self, ledger: Ledger, reservations: Reservations) -> None:
        self._ledger = ledger
        self._reservations = reservations
        self._flights = SingleFlight(self._install)

    async def load(self, org: str, missing: CountersMissing) -> None:
        """One attempt; whether it was enough shows when the question is asked again."""
        await self._flights.get((org, missing))

    async def until_loaded(self, org: str, ask: Callable[[], Awaitable[T | CountersMissing]]) -> T:
        """Ask, and load what is missing, until there is an answer."""
        for _ in range(MAX_ROUNDS):
            answer = await ask()
            if not isinstance(answer, CountersMissing):
                return answer
            await self.load(org, answer)
        raise counters_keep_changing()

    async def _install(self, key: tuple[str, CountersMissing]) -> bool:
        org, missing = key
        position = await self._ledger.spent(missing.counters)
        return await self._reservations.install(org, missing.incarnation, position)


def counters_keep_changing() -> StoreUnavailable:
    """After MAX_ROUNDS."""
    return StoreUnavailable(
        "the counters of budgets are being rebuilt; try again shortly", metadata={"store": "redis"}, retry_after_s=0.5
    )
