"""What the mesh can run and what it costs: kept at hand, refreshed in the background."""

from __future__ import annotations

import asyncio
from typing import Final

from farthing_gateway.domain.catalogue import Catalogue, ModelPrice, ServedModel, catalogue
from farthing_gateway.domain.errors import no_catalogue
from farthing_gateway.ports import Pools, Prices
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import Log

RETRY_S: Final = 1.0


class Models:
    """The catalogue, at most `refresh_s` old while inference and accounting answer; older, as they said last, while
    not.

    The first request after a start may come before the first refresh has gone through: it asks by itself.
    """

    def __init__(self, pools: Pools, prices: Prices, *, clock: Clock, refresh_s: float, log: Log) -> None:
        self._pools = pools
        self._prices = prices
        self._clock = clock
        self._refresh_s = refresh_s
        self._log = log
        self._served: tuple[ServedModel, ...] = ()
        self._priced: tuple[ModelPrice, ...] = ()
        self.at_hand = Catalogue()

    async def catalogue(self) -> Catalogue:
        """The models; ModelUnavailable when inference has never told any. While the first refresh still waits for the
        other half, none are at hand: then it is asked once more, and no model counts as unknown."""
        if not self.at_hand.models:
            await self.refresh()
        if not self.at_hand.models:
            raise no_catalogue(RETRY_S)
        return self.at_hand

    async def refresh(self) -> bool:
        """Ask both; whether both answered. What one does not tell stays as it was."""
        served, priced = await asyncio.gather(self._ask_pools(), self._ask_prices())
        self.at_hand = catalogue(self._served, self._priced)
        return served and priced

    async def refresh_forever(self) -> None:
        """Keep the catalogue fresh until cancelled; sooner again after a failure."""
        while True:
            complete = await self.refresh()
            await self._clock.sleep(self._refresh_s if complete else min(RETRY_S, self._refresh_s))

    async def _ask_pools(self) -> bool:
        try:
            self._served = tuple(await self._pools.list_models())
        except FarthingError as error:
            self._log.debug("the pools could not be listed", reason=error.reason_name)
            return False
        return True

    async def _ask_prices(self) -> bool:
        try:
            self._priced = tuple(await self._prices.list_prices())
        except FarthingError as error:
            self._log.debug("the prices could not be listed", reason=error.reason_name)
            return False
        return True
