"""The models of the mesh and what their tokens cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from farthing_gateway.domain.model import Tier
from farthing_kit.money import UnitPrices, cost
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model as one pool serves it."""

    name: str
    tier: Tier
    weights: str
    quantization: str
    context_tokens: int
    available: bool


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """The prices of a model, and the version of the price list in which they came into force."""

    model: str
    tier: Tier
    prices: UnitPrices
    version: int


@dataclass(frozen=True, slots=True)
class Quote:
    """The prices that a request runs under, those of the counterfactual beside."""

    price_version: int
    model: str
    prices: UnitPrices
    counterfactual_model: str
    counterfactual_prices: UnitPrices


@dataclass(frozen=True)
class Catalogue:
    """What ListPools and ListPrices said last. One entry for each model, cheapest first."""

    models: tuple[ServedModel, ...] = ()
    prices: Mapping[str, ModelPrice] = field(default_factory=dict)

    def model(self, name: str) -> ServedModel | None:
        """The model of that name."""
        return self._by_name.get(name)

    def of_tier(self, tier: Tier, tokens: int = 0) -> ServedModel | None:
        """The model that stands for a tier: the cheapest available one that takes so many tokens, or the cheapest if
        none is available."""
        candidates = [model for model in self.models if model.tier is tier and model.context_tokens >= tokens]
        return next((model for model in candidates if model.available), candidates[0] if candidates else None)

    def quote(self, model: str) -> Quote | None:
        """The quote that accounting would give now; None where a price is not known."""
        own, large = self.prices.get(model), self.counterfactual
        if own is None or large is None:
            return None
        return Quote(self._version, model, own.prices, large.model, large.prices)

    def dearest(self, tokens: TokenUsage, model: str, tier: Tier, max_tier: Tier) -> str | None:
        """Which of the models that may answer asks most for these tokens; None where nothing can be quoted. `model` and
        `tier` are what the caller named, if anything. Nothing in a price list says that a lesser tier is cheaper."""
        among = (
            self.quote(each.name)
            for each in self.models
            if model in ("", each.name) and tier in (Tier.UNSPECIFIED, each.tier) and each.tier <= max_tier
        )
        quotes = [quote for quote in among if quote is not None]
        return max(quotes, key=lambda quote: cost(tokens, quote.prices)).model if quotes else None

    @cached_property
    def counterfactual(self) -> ModelPrice | None:
        """What everything is compared with: the newest price of the large tier, as accounting picks it."""
        large = [price for price in self.prices.values() if price.tier is Tier.LARGE]
        return max(large, key=lambda price: (price.version, price.model), default=None)

    @cached_property
    def _by_name(self) -> dict[str, ServedModel]:
        return {model.name: model for model in self.models}

    @cached_property
    def _version(self) -> int:
        return max((price.version for price in self.prices.values()), default=0)


def catalogue(served: Iterable[ServedModel], prices: Iterable[ModelPrice]) -> Catalogue:
    """Brings pools and prices together. A model that several pools serve is there once, available if it is in any."""
    by_name: dict[str, ServedModel] = {}
    for model in served:
        known = by_name.get(model.name)
        if known is None or (model.available and not known.available):
            by_name[model.name] = model
    priced = {price.model: price for price in prices}
    return Catalogue(tuple(sorted(by_name.values(), key=lambda model: _dearness(model, priced))), priced)


def _dearness(model: ServedModel, prices: Mapping[str, ModelPrice]) -> tuple[int, int, int, str]:
    price = prices.get(model.name)
    if price is None:
        return (1, 0, model.tier, model.name)
    return (0, price.prices.output + price.prices.fresh_input, model.tier, model.name)
