"""Values that tests of the gateway begin with."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from farthing_gateway.domain.analysis import Analysis, Outlook
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.catalogue import ModelPrice, ServedModel
from farthing_gateway.domain.model import Role, Task, Tier
from farthing_gateway.domain.policy import OutageMode, Policy
from farthing_gateway.domain.prompt import AskedSampling, Message, Prompt
from farthing_kit.money import NanoUsd, UnitPrices
from farthing_kit.usage import TokenUsage

POLICY = Policy(
    version=3,
    default_tier=Tier.MEDIUM,
    max_tier=Tier.LARGE,
    max_output_tokens=512,
    cache_enabled=True,
    cache_time_to_live=timedelta(hours=1),
    outage_mode=OutageMode.DENY,
    outage_grace=NanoUsd(0),
)
MODELS = (
    ServedModel("small", Tier.SMALL, "SmolLM2-135M-Instruct", "INT4", 2048, available=True),
    ServedModel("medium", Tier.MEDIUM, "Gemma-3-270M", "INT4", 2048, available=True),
    ServedModel("large", Tier.LARGE, "Gemma-3-270M", "FP16", 2048, available=True),
)
PRICES = (
    ModelPrice("small", Tier.SMALL, UnitPrices(fresh_input=20_000_000, output=60_000_000), 1),
    ModelPrice("medium", Tier.MEDIUM, UnitPrices(fresh_input=150_000_000, output=600_000_000), 2),
    ModelPrice("large", Tier.LARGE, UnitPrices(fresh_input=1_000_000_000, output=4_000_000_000), 3),
)
USAGE = TokenUsage(fresh_input=12, output=5)


def policy(**changes: Any) -> Policy:
    """The policy of tests, changed."""
    return replace(POLICY, **changes)


def ask(text: str = "What is the capital of France?", *earlier: Message, **changes: Any) -> Prompt:
    """A prompt whose last message is `text`."""
    return Prompt(messages=(*earlier, Message(Role.USER, text)), **changes)


def sampled(**changes: Any) -> AskedSampling:
    """Sampling with something said."""
    return AskedSampling(**changes)


def outlooks(small: float, medium: float, large: float) -> tuple[Outlook, ...]:
    """What the tiers are worth for a prompt."""
    return (
        Outlook(Tier.SMALL, small, medium - small),
        Outlook(Tier.MEDIUM, medium, large - medium),
        Outlook(Tier.LARGE, large),
    )


def analysis(small: float = 0.9, medium: float = 0.95, large: float = 0.98, **changes: Any) -> Analysis:
    """A judgement in which the tiers answer acceptably with these probabilities."""
    return replace(Analysis(0.1, Task.QUESTION_ANSWERING, 20, 0.2, 9, outlooks(small, medium, large)), **changes)


def answer(text: str = "Paris.", **changes: Any) -> Answer:
    """An answer that a cache holds."""
    values: dict[str, Any] = {
        "text": text,
        "usage": USAGE,
        "tier": Tier.SMALL,
        "model": "small",
        "quantization": "INT4",
        "created_at": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Answer(**{**values, **changes})
