"""Prices are versions of one list: a change adds one, and what was quoted before stays as it was."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from farthing_accounting.domain.errors import PriceMissing
from farthing_accounting.domain.vocabulary import Tier
from farthing_kit.money import NANOS_PER_USD, UnitPrices

MAX_MODEL_CHARS: Final = 128
# A thousand dollars for a million tokens. With it, a cost stays inside 64 bits for any request that a model can answer.
MAX_PRICE: Final = 1_000 * NANOS_PER_USD


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """What one model costs from one version of the list on."""

    version: int
    model: str
    tier: Tier
    prices: UnitPrices
    effective_time: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """The prices that a request is admitted under: the model's, and those of the model it is compared with."""

    price_version: int
    model: str
    prices: UnitPrices
    counterfactual_model: str
    counterfactual_prices: UnitPrices


class PriceBook:
    """The whole list, every version of it."""

    def __init__(self, versions: Iterable[ModelPrice] = ()) -> None:
        self._versions = tuple(sorted(versions, key=lambda price: price.version))
        self._in_force = _latest(self._versions)
        self._large = _newest_large(self._in_force)

    @property
    def version(self) -> int:
        """The newest version; 0 when the list is empty."""
        return self._versions[-1].version if self._versions else 0

    def __iter__(self) -> Iterator[ModelPrice]:
        """The prices in force, by model."""
        return iter(sorted(self._in_force.values(), key=lambda price: price.model))

    def __contains__(self, model: object) -> bool:
        return model in self._in_force

    def quote(self, model: str) -> Quote:
        """The prices for a request that a model answers, as of now."""
        price = self._in_force.get(model)
        if price is None:
            raise PriceMissing(model)
        # Without a large tier nothing dearer is known to compare with: the request saves nothing.
        dearest = self._large or price
        return Quote(self.version, model, price.prices, dearest.model, dearest.prices)

    def as_of(self, version: int) -> PriceBook:
        """The list as it was at a version."""
        if version >= self.version:
            return self
        return PriceBook(price for price in self._versions if price.version <= version)


def _latest(versions: Iterable[ModelPrice]) -> dict[str, ModelPrice]:
    return {price.model: price for price in versions}


def _newest_large(in_force: dict[str, ModelPrice]) -> ModelPrice | None:
    large = [price for price in in_force.values() if price.tier is Tier.LARGE]
    return max(large, key=lambda price: price.version, default=None)
