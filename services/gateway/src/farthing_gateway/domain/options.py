"""What each tier would cost for a prompt, and what it would be worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue, ServedModel
from farthing_gateway.domain.estimate import TOKENS_PER_MESSAGE, TOKENS_PER_PROMPT
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import Message, Question
from farthing_kit.money import NanoUsd, cost
from farthing_kit.usage import TokenUsage

TIERS: Final = (Tier.SMALL, Tier.MEDIUM, Tier.LARGE)
# Of plain prose, tokenizers make one token of four or five letters.
BYTES_PER_TOKEN: Final = 4

Room = Mapping[Tier, ServedModel]
"""The tiers that may answer, each with its model: served, allowed by the policy, and wide enough."""


@dataclass(frozen=True, slots=True)
class TierOption:
    """One tier as a way to answer a prompt: its model (None: none is served), the calibrated probability of an
    acceptable answer, and the cost at the expected length (None: the price is not known). Only an `open` one may be
    taken: it is served, within the policy, and its context is wide enough."""

    tier: Tier
    model: ServedModel | None
    success: float
    expected_cost: NanoUsd | None
    open: bool

    @property
    def rank(self) -> tuple[int, int]:
        """Cheaper first; where prices are not known, a greater tier is taken to be dearer."""
        return (0 if self.expected_cost is None else self.expected_cost, self.tier)


def room_for(question: Question, policy: Policy, analysis: Analysis | None, catalogue: Catalogue) -> Room:
    """The tiers that can take prompt and answer. Where none can, all that are served: the token count is a guess, and
    the model that counts exactly says PROMPT_TOO_LARGE with the exact number."""
    allowed = [tier for tier in TIERS if tier <= policy.max_tier]
    tokens = tokens_needed(question, analysis)
    wide_enough = {tier: model for tier in allowed if (model := catalogue.of_tier(tier, tokens)) is not None}
    return wide_enough or {tier: model for tier in allowed if (model := catalogue.of_tier(tier)) is not None}


def options_for(
    question: Question, analysis: Analysis, catalogue: Catalogue, room: Room, session_tier: Tier
) -> tuple[TierOption, ...]:
    """Every tier that the classifier has an outlook for, the small one first."""
    found = []
    for outlook in analysis.outlooks:
        tier = outlook.tier
        model = room.get(tier) or catalogue.of_tier(tier)
        reused = _tokens_reused(question, analysis) if tier is session_tier else 0
        expected = None if model is None else _expected_cost(question, analysis, catalogue, model, reused)
        found.append(TierOption(tier, model, outlook.success, expected, open=tier in room))
    return tuple(found)


def tokens_needed(question: Question, analysis: Analysis | None) -> int:
    """How wide a context must be: prompt and the longest answer that was asked for."""
    return prompt_tokens(question, analysis) + question.sampling.max_output_tokens


def prompt_tokens(question: Question, analysis: Analysis | None) -> int:
    """How many tokens the prompt probably has, the chat template included. Not a bound: that is `estimate`.

    The classifier counts by a vocabulary of its own, to which a long string that it does not know is one token."""
    template = TOKENS_PER_PROMPT + TOKENS_PER_MESSAGE * len(question.messages)
    counted = analysis.prompt_tokens if analysis is not None else 0
    return template + max(counted, -(-_bytes(question.messages) // BYTES_PER_TOKEN))


def _expected_cost(
    question: Question, analysis: Analysis, catalogue: Catalogue, model: ServedModel, reused: int
) -> NanoUsd | None:
    price = catalogue.prices.get(model.name)
    if price is None:
        return None
    longest = question.sampling.max_output_tokens
    output = min(analysis.expected_output_tokens or longest, longest)
    fresh = prompt_tokens(question, analysis) - reused
    return cost(TokenUsage(fresh_input=fresh, cache_read=reused, output=output), price.prices)


def _tokens_reused(question: Question, analysis: Analysis) -> int:
    """What the engine of the session's tier has in its prefix cache: everything before the last message. On any other
    tier it would be computed anew, so that a switch has to be worth the lost prefix."""
    earlier, all_of_them = _bytes(question.messages[:-1]), _bytes(question.messages)
    return prompt_tokens(question, analysis) * earlier // all_of_them if all_of_them else 0


def _bytes(messages: tuple[Message, ...]) -> int:
    return sum(len(message.content.encode()) for message in messages)
