"""What a request cost, and what it would have cost without the mesh."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.domain.catalogue import Quote
from farthing_kit.money import HitPrice, NanoUsd, cost
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class SupersededCall:
    """A call of a cascade whose answer was not good enough: the id it is booked under, and its counterfactual tokens,
    which count no more."""

    request_id: str
    counterfactual_usage: TokenUsage


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a request and of its counterfactual, from the prices it was admitted under."""

    cost: NanoUsd
    counterfactual: NanoUsd

    def __add__(self, other: Costs) -> Costs:
        return Costs(NanoUsd(self.cost + other.cost), NanoUsd(self.counterfactual + other.counterfactual))

    @property
    def saved(self) -> NanoUsd:
        """The difference; negative when the mesh was dearer."""
        return NanoUsd(self.counterfactual - self.cost)


NOTHING = Costs(NanoUsd(0), NanoUsd(0))


def of_generation(usage: TokenUsage, quote: Quote, superseded: SupersededCall | None = None) -> Costs:
    """Of a call of a model: the same tokens at either price. The counterfactual of a call that it supersedes is taken
    back, at this call's prices: without the mesh there would have been one answer."""
    before = NanoUsd(0)
    if superseded is not None:
        before = cost(superseded.counterfactual_usage, quote.counterfactual_prices)
    return Costs(cost(usage, quote.prices), NanoUsd(cost(usage, quote.counterfactual_prices) - before))


def of_hit(avoided: TokenUsage, quote: Quote | None, price: HitPrice) -> Costs:
    """Of an answer from a cache: its price, mostly nothing, at most what the model that wrote it asks for the same
    tokens; against making it again on the large tier. Where the prices of that model are not known it is free."""
    if quote is None:
        return NOTHING
    return Costs(price.of(cost(avoided, quote.prices)), cost(avoided, quote.counterfactual_prices))
