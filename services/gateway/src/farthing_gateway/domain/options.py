"""What each tier would cost for a prompt, and what it would be worth."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue, ServedModel
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.prompt import Question
from farthing_kit.money import NanoUsd, cost
from farthing_kit.usage import TokenUsage

TIERS = (Tier.SMALL, Tier.MEDIUM, Tier.LARGE)
# Of plain prose, tokenizers make one token of four or five characters. Only for prompts that nobody counted.
CHARS_PER_TOKEN = 4


@dataclass(frozen=True, slots=True)
class TierOption:
    """One tier as a way to answer: its model (None: nobody serves one), the calibrated probability of an acceptable
    answer (None: the classifier did not say), and the cost at the expected length (None: the price is not known).

    `open` says whether it may be taken: it is served, the policy allows it, and prompt and answer fit its context."""

    tier: Tier
    model: ServedModel | None
    success: float | None
    expected_cost: NanoUsd | None
    open: bool

    @property
    def rank(self) -> tuple[int, int]:
        """Cheaper first; where a price is not known, a greater tier is taken to be dearer."""
        return (0 if self.expected_cost is None else self.expected_cost, self.tier)
