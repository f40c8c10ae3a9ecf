"""Wrong input, and the field that the error names: nothing reaches the stores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.accounting.v1 import ledger_service_pb2 as ledger_pb
from farthing.accounting.v1 import policy_pb2
from farthing.accounting.v1 import price_service_pb2 as price_pb
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.usage_pb2 import TokenUsage, UnitPrices
from farthing_kit.errors import FarthingError
from farthing_kit.wire import money_to_message
from services.accounting.tests.client import Accounting, Stubs, budget_message, reserve_request, seconds

POLICY = policy_pb2.Policy(default_tier=model_pb2.TIER_SMALL, max_tier=model_pb2.TIER_MEDIUM, max_output_tokens=1)

# Calls by the field that must be named; spaces behind it tell cases of one field apart.
Calls = dict[str, Any]


def reservations(stubs: Stubs) -> Calls:
    def reserve(**changes: Any) -> Any:
        return stubs.admission.Reserve(reserve_request(**changes))

    return {
        "reservation_id": reserve(name=""),
        "reservation_id ": reserve(name="r" * 129),
        "model": reserve(model=""),
        "estimate": reserve(estimate=TokenUsage(output_tokens=-1)),
        "estimate ": reserve(estimate=TokenUsage()),
        "hit_price": reserve(hit_price=policy_pb2.HitPrice(share_millionths=1_000_001)),
        "time_to_live": reserve(time_to_live=seconds(0.5)),
        "time_to_live ": reserve(time_to_live=seconds(3_601)),
    }


def keys(stubs: Stubs) -> Calls:
    def create_key(**changes: Any) -> Any:
        values = {"idempotency_key": "k", "org": "acme"}
        return stubs.keys.CreateKey(key_pb.CreateKeyRequest(**{**values, **changes}))

    return {
        "idempotency_key": create_key(idempotency_key=""),
        "org": create_key(org="Acme"),
        "team": create_key(team="a/b"),
        "user": create_key(user="u" * 129),
        "org ": stubs.keys.ListKeys(key_pb.ListKeysRequest()),
        "key_id": stubs.keys.RevokeKey(key_pb.RevokeKeyRequest()),
    }


def budgets(stubs: Stubs) -> Calls:
    def set_budget(**changes: Any) -> Any:
        return stubs.budgets.SetBudget(
            budget_pb.SetBudgetRequest(idempotency_key="k", budget=budget_message(**changes))
        )

    return {
        "budget.window": stubs.budgets.SetBudget(budget_pb.SetBudgetRequest(idempotency_key="k")),
        "budget.scope.id": set_budget(kind="TEAM"),
        "budget.scope.id ": set_budget(name="x"),
        "budget.scope.org": set_budget(org=""),
        "budget.limit.nano_units": set_budget(money=-1),
        "budget.limit.nano_units ": set_budget(money=9_000_001 * 10**9),
        "budget.limit_tokens": set_budget(limit_tokens=-1),
        "budget.limit_concurrency": set_budget(limit_concurrency=-1),
    }


def policies(stubs: Stubs) -> Calls:
    def set_policy(**changes: Any) -> Any:
        changed = policy_pb2.Policy()
        changed.CopyFrom(POLICY)
        changed.MergeFrom(policy_pb2.Policy(**changes))
        return stubs.budgets.SetPolicy(budget_pb.SetPolicyRequest(idempotency_key="k", org="acme", policy=changed))

    def set_routing(**changes: Any) -> Any:
        return set_policy(routing=policy_pb2.RoutingPolicy(**changes))

    def set_semantic(**changes: Any) -> Any:
        return set_policy(semantic_cache=policy_pb2.SemanticCachePolicy(**changes))

    return {
        "policy.max_output_tokens": set_policy(max_output_tokens=9_000),
        "policy.default_tier": set_policy(default_tier=3),
        "policy.max_tier": set_policy(max_tier=9),
        "policy.cache_time_to_live": set_policy(cache_time_to_live=seconds(-1)),
        "policy.outage_mode": set_policy(outage_mode=9),
        "policy.outage_grace.nano_units": set_policy(outage_grace=money_to_message(-1)),
        "policy.routing.quality_floor": set_routing(quality_floor=0.0),
        "policy.routing.quality_floor ": set_routing(quality_floor=float("nan")),
        "policy.routing.spending_target": set_routing(spending_target=money_to_message(0)),
        "policy.routing.fixed_tier": set_routing(fixed_tier=model_pb2.TIER_LARGE),  # above max_tier
        "policy.routing.fixed_tier ": set_routing(fixed_tier=9),
        "policy.routing.min_quality_floor": set_routing(min_quality_floor=1.0),
        "policy.routing.min_quality_floor ": set_routing(quality_floor=0.6, min_quality_floor=0.7),
        "policy.routing.task_models[0].task": set_routing(task_models=[policy_pb2.TaskModel(model="m")]),
        "policy.routing.task_models[1].task": set_routing(task_models=[policy_pb2.TaskModel(task=4, model="m")] * 2),  # type: ignore[arg-type]
        "policy.routing.task_models[0].model": set_routing(task_models=[policy_pb2.TaskModel(task=4)]),  # type: ignore[arg-type]
        "policy.routing.session_time_to_live": set_routing(session_time_to_live=seconds(86_401)),
        "policy.routing.shadow_share": set_routing(shadow_share=0.11),
        "policy.semantic_cache.max_error_share": set_semantic(max_error_share=-0.1),
        "policy.semantic_cache.scope": set_semantic(scope=9),
        "policy.semantic_cache.hit_price_share": set_semantic(hit_price_share=1.000001),
        "policy.semantic_cache.hit_price_share ": set_semantic(hit_price_share=-0.1),
        "policy.semantic_cache.hit_price_share  ": set_semantic(hit_price_share=float("nan")),
        "policy.semantic_cache.hit_price_share   ": set_semantic(hit_price_share=0.1234567),
    }


def prices(stubs: Stubs) -> Calls:
    def set_price(**changes: Any) -> Any:
        changed = price_pb.ModelPrice(model="m", tier=model_pb2.TIER_SMALL)
        changed.MergeFrom(price_pb.ModelPrice(**changes))
        return stubs.prices.SetPrice(price_pb.SetPriceRequest(idempotency_key="k", price=changed))

    return {
        "price.model": stubs.prices.SetPrice(price_pb.SetPriceRequest(idempotency_key="k")),
        "price.tier": set_price(tier=9),
        "price.prices": set_price(prices=UnitPrices(output=money_to_message(-1))),
        "price.prices.output.nano_units": set_price(prices=UnitPrices(output=money_to_message(10**13))),
    }


def queries(stubs: Stubs) -> Calls:
    return {
        "page_size": stubs.ledger.Query(ledger_pb.QueryRequest(page_size=1_001)),
        "page_token": stubs.ledger.Query(ledger_pb.QueryRequest(page_token="x")),
        "org  ": stubs.ledger.Query(ledger_pb.QueryRequest(org="A B")),
        "group_by": stubs.reports.Cost(report_pb.CostRequest(group_by=99)),  # type: ignore[arg-type]
        "tag_key": stubs.reports.Cost(report_pb.CostRequest(group_by=report_pb.GROUP_BY_TAG)),
    }


@pytest.mark.parametrize("calls", [reservations, keys, budgets, policies, prices, queries])
async def test_wrong_fields_are_named(accounting: Accounting, calls: Callable[[Stubs], Calls]) -> None:
    for field, call in calls(accounting.operator).items():
        with pytest.raises(FarthingError) as caught:
            await call
        assert caught.value.reason == ErrorReason.ERROR_REASON_INVALID_FIELD, field
        assert [violation.field for violation in caught.value.fields] == [field.strip()]
