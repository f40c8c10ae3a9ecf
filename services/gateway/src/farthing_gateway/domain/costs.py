"""What a request cost, and what it would have cost without the mesh."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_gateway.domain.catalogue import Quote
from farthing_kit.money import NanoUsd, cost
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Costs:
    """The cost of a request and of its counterfactual, from the prices it was admitted under."""

    cost: NanoUsd
    counterfactual: NanoUsd

    @property
    def saved(self) -> NanoUsd:
        """The difference; negative when the mesh was dearer."""
        return NanoUsd(self.counterfactual - self.cost)


NOTHING = Costs(NanoUsd(0), NanoUsd(0))


def of_generation(usage: TokenUsage, quote: Quote) -> Costs:
    """Of an answer that a model made: the same tokens at either price."""
    return Costs(cost(usage, quote.prices), cost(usage, quote.counterfactual_prices))


def of_hit(avoided: TokenUsage, quote: Quote | None) -> Costs:
    """Of an answer from a cache: nothing, against making it again on the large tier."""
    if quote is None:
        return NOTHING
    return Costs(NanoUsd(0), cost(avoided, quote.counterfactual_prices))
