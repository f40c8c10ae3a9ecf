"""The price list: reading it and changing it."""

from __future__ import annotations

from collections.abc import Sequence

from farthing_accounting.app.fresh import Fresh
from farthing_accounting.app.holding import THE_LIST
from farthing_accounting.domain.pricing import ModelPrice, PriceBook
from farthing_accounting.ports import Prices, WriteOnce


class Pricing:
    """Other replicas follow a change when their copy of the list is no longer fresh."""

    def __init__(self, prices: Prices, kept: Fresh[str, PriceBook]) -> None:
        self._prices = prices
        self._kept = kept

    async def in_force(self) -> Sequence[ModelPrice]:
        """By model, as the store has them now."""
        return list(await self._kept.reload(THE_LIST))

    async def set_price(self, price: ModelPrice, once: WriteOnce) -> ModelPrice:
        """In force from now on."""
        now = await self._prices.put(price, once)
        await self._kept.reload(THE_LIST)
        return now
