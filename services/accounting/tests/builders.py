"""Values for tests, with defaults that make sense."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from farthing_accounting.domain.budgets import Budget, Limit, limits_of
from farthing_accounting.domain.pricing import ModelPrice, Quote
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.reservations import Estimate, Extension, Hold, Settlement
from farthing_accounting.domain.scopes import Scope, ScopeKind
from farthing_accounting.domain.usage import UsageEvent
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason, Task, Tier
from farthing_accounting.domain.windows import Window
from farthing_kit.money import NanoUsd, UnitPrices
from farthing_kit.usage import Tokens, TokenUsage

START = datetime(2026, 1, 1, tzinfo=UTC)
ADA = Principal("acme", "search", "ada", "k_00000000000000aa")
BOB = Principal("acme", "ads", "bob", "k_00000000000000bb")
SMALL = UnitPrices(100_000_000, 50_000_000, 100_000_000, 100_000_000, 100_000_000)
LARGE = UnitPrices(900_000_000, 450_000_000, 900_000_000, 900_000_000, 900_000_000)
QUOTE = Quote(2, "small", SMALL, "large", LARGE)


def org_scope(org: str = "acme") -> Scope:
    return Scope(org, ScopeKind.ORG)


def team_scope(team: str = "search", org: str = "acme") -> Scope:
    return Scope(org, ScopeKind.TEAM, team)


def key_scope(key: str = ADA.key_id, org: str = "acme") -> Scope:
    return Scope(org, ScopeKind.KEY, key)


def budget(scope: Scope | None = None, window: Window = Window.DAY, **limits: Any) -> Budget:
    return Budget(scope or org_scope(), window, **limits)


def limits(*budgets: Budget, principal: Principal = ADA, now: datetime = START) -> tuple[Limit, ...]:
    return limits_of(principal, budgets, now)


def hold(name: str = "r1", amount: int = 100, tokens: int = 10, **changes: Any) -> Hold:
    values: dict[str, Any] = {
        "reservation_id": name,
        "principal": ADA,
        "estimate": Estimate(NanoUsd(amount), Tokens(tokens)),
        "time_to_live": timedelta(seconds=60),
        "model": "small",
        "price_version": 2,
        "digest": f"{name} {amount} {tokens}",
    }
    return Hold(**{**values, **changes})


def extension(name: str = "r1", key: str = "x1", amount: int = 10, tokens: int = 1, **changes: Any) -> Extension:
    values: dict[str, Any] = {
        "reservation_id": name,
        "principal": ADA,
        "idempotency_key": key,
        "estimate": Estimate(NanoUsd(amount), Tokens(tokens)),
        "time_to_live": timedelta(seconds=60),
        "digest": f"{key} {amount} {tokens}",
    }
    return Extension(**{**values, **changes})


def settlement(number: int, name: str = "r1", amount: int = 70, tokens: int = 7, **changes: Any) -> Settlement:
    values: dict[str, Any] = {
        "transaction_id": number,
        "reservation_id": name,
        "principal": ADA,
        "end_time": START,
        "amount": NanoUsd(amount),
        "tokens": Tokens(tokens),
    }
    return Settlement(**{**values, **changes})


def event(request_id: str = "q1", **changes: Any) -> UsageEvent:
    usage = TokenUsage(fresh_input=1_000, output=500)
    values: dict[str, Any] = {
        "request_id": request_id,
        "principal": ADA,
        "end_time": START + timedelta(hours=9),
        "cache_level": CacheLevel.NONE,
        "usage": usage,
        "counterfactual_usage": usage,
        "quote": QUOTE,
        "reservation_id": "",
        "tier": Tier.SMALL,
        "task": Task.CHAT,
        "pool": "cpu-local",
        "quantization": "int4",
        "finish_reason": FinishReason.STOP,
        "tags": {"feature": "help"},
    }
    return UsageEvent(**{**values, **changes})


def hit(request_id: str = "q1", **changes: Any) -> UsageEvent:
    """A cached answer."""
    values: dict[str, Any] = {"cache_level": CacheLevel.EXACT, "usage": TokenUsage(), "pool": ""}
    return event(request_id, **{**values, **changes})


def price(model: str, tier: Tier, prices: UnitPrices, version: int = 0) -> ModelPrice:
    return ModelPrice(version, model, tier, prices, START)
