"""Policies as accounting tells them, and what a gateway makes of what is not set or not known."""

from __future__ import annotations

from datetime import timedelta

import pytest

from farthing.accounting.v1 import policy_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_gateway.adapters.accounting import policy_from_message
from farthing_gateway.domain.model import Task, Tier
from farthing_gateway.domain.policy import (
    DEFAULT_ROUTING,
    DEFAULT_SEMANTIC_CACHE,
    CacheScope,
    FixedTier,
    Objective,
    QualityFloor,
    RoutingPolicy,
    SpendingTarget,
)
from farthing_kit.money import HitPrice, Millionths, NanoUsd
from farthing_kit.wire import money_to_message


def test_an_older_accounting_says_nothing_of_routing_and_the_defaults_hold() -> None:
    policy = policy_from_message(pb.Policy(version=1, default_tier=model_pb2.TIER_MEDIUM))
    assert (policy.routing, policy.semantic_cache) == (DEFAULT_ROUTING, DEFAULT_SEMANTIC_CACHE)


def test_everything_that_is_said_is_understood() -> None:
    message = pb.RoutingPolicy(
        quality_floor=0.8,
        min_quality_floor=0.6,
        task_models=[pb.TaskModel(task=model_pb2.TASK_CODE, model="coder")],
        cascade=True,
        shadow_share=0.02,
    )
    message.session_time_to_live.FromSeconds(600)
    assert policy_from_message(pb.Policy(routing=message)).routing == RoutingPolicy(
        QualityFloor(0.8), 0.6, {Task.CODE: "coder"}, True, timedelta(minutes=10), 0.02
    )


@pytest.mark.parametrize(
    ("message", "objective"),
    [
        (pb.RoutingPolicy(), QualityFloor(0.7)),
        (pb.RoutingPolicy(spending_target=money_to_message(5_000)), SpendingTarget(NanoUsd(5_000))),
        (pb.RoutingPolicy(fixed_tier=model_pb2.TIER_SMALL), FixedTier(Tier.SMALL)),
        (pb.RoutingPolicy(fixed_tier=model_pb2.TIER_LARGE), FixedTier(Tier.MEDIUM)),  # never above max_tier
    ],
)
def test_a_policy_has_one_objective(message: pb.RoutingPolicy, objective: Objective) -> None:
    policy = policy_from_message(pb.Policy(max_tier=model_pb2.TIER_MEDIUM, routing=message))
    assert policy.routing.objective == objective


def test_the_price_of_hits_is_that_of_the_policys_version() -> None:
    message = pb.Policy(version=4, semantic_cache=pb.SemanticCachePolicy(hit_price_share=0.1))
    assert policy_from_message(message).hit_price == HitPrice(4, Millionths(100_000))
    assert policy_from_message(pb.Policy(version=4)).hit_price == HitPrice(4)


def test_an_unknown_scope_is_the_narrowest() -> None:
    newer = pb.SemanticCachePolicy(scope=99, max_error_share=0.01)  # type: ignore[arg-type]
    assert policy_from_message(pb.Policy(semantic_cache=newer)).semantic_cache.scope is CacheScope.USER
