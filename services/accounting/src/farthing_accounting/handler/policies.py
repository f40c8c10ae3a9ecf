"""Policies as messages of the contract, and back: every field is right, or named in the error."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from farthing.accounting.v1 import policy_pb2 as pb
from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.policy import (
    DEFAULT_MIN_QUALITY_FLOOR,
    MAX_CACHE_TIME_TO_LIVE,
    MAX_ERROR_SHARE,
    MAX_OUTPUT_TOKENS,
    MAX_SESSION_TIME_TO_LIVE,
    MAX_SHADOW_SHARE,
    MAX_TASK_MODELS,
    FixedTier,
    Objective,
    Policy,
    QualityFloor,
    RoutingPolicy,
    SemanticCachePolicy,
    SpendingTarget,
)
from farthing_accounting.domain.pricing import MAX_MODEL_CHARS
from farthing_accounting.domain.vocabulary import CacheScope, OutageMode, Task, Tier
from farthing_accounting.handler import fields
from farthing_kit.money import WHOLE, HitPrice, Millionths, NanoUsd, millionths
from farthing_kit.wire import money_to_message


def policy(value: Policy) -> pb.Policy:
    return pb.Policy(
        version=value.version,
        default_tier=int(value.default_tier),  # type: ignore[arg-type]
        max_tier=int(value.max_tier),  # type: ignore[arg-type]
        max_output_tokens=value.max_output_tokens,
        cache_enabled=value.cache_enabled,
        cache_time_to_live=fields.span(value.cache_time_to_live),
        outage_mode=int(value.outage_mode),  # type: ignore[arg-type]
        outage_grace=money_to_message(value.outage_grace),
        routing=_routing(value.routing),
        semantic_cache=pb.SemanticCachePolicy(
            max_error_share=value.semantic_cache.max_error_share,
            scope=int(value.semantic_cache.scope),  # type: ignore[arg-type]
            hit_price_share=value.semantic_cache.hit_price_share / WHOLE,
        ),
    )


def policy_from(message: pb.Policy) -> Policy:
    """Its version is the service's business: what the caller sends is not read."""
    default = fields.tier("policy.default_tier", message.default_tier)
    best = fields.tier("policy.max_tier", message.max_tier)
    if default > best:
        raise InvalidArgument.field("policy.default_tier", "is above max_tier, must be at most that")
    output, time_to_live = message.max_output_tokens, message.cache_time_to_live
    return Policy(
        version=0,
        default_tier=default,
        max_tier=best,
        max_output_tokens=fields.count("policy.max_output_tokens", output, least=1, most=MAX_OUTPUT_TOKENS),
        cache_enabled=message.cache_enabled,
        cache_time_to_live=fields.duration(
            "policy.cache_time_to_live", time_to_live, least=timedelta(0), most=MAX_CACHE_TIME_TO_LIVE
        ),
        outage_mode=_outage_mode(message.outage_mode),
        outage_grace=NanoUsd(fields.money("policy.outage_grace", message.outage_grace)),
        routing=_routing_from("policy.routing", message.routing, best),
        semantic_cache=_semantic_cache_from("policy.semantic_cache", message.semantic_cache),
    )


def _routing(value: RoutingPolicy) -> pb.RoutingPolicy:
    found = pb.RoutingPolicy(
        min_quality_floor=value.min_quality_floor,
        task_models=[pb.TaskModel(task=int(task), model=model) for task, model in value.task_models],  # type: ignore[arg-type]
        cascade=value.cascade,
        session_time_to_live=fields.span(value.session_time_to_live),
        shadow_share=value.shadow_share,
    )
    match value.objective:
        case QualityFloor(floor):
            found.quality_floor = floor
        case SpendingTarget(target):
            found.spending_target.CopyFrom(money_to_message(target))
        case FixedTier(tier):
            found.fixed_tier = int(tier)  # type: ignore[assignment]
    return found


def _routing_from(field: str, message: pb.RoutingPolicy, best: Tier) -> RoutingPolicy:
    objective = _objective(field, message, best)
    life = message.session_time_to_live
    return RoutingPolicy(
        objective=objective,
        min_quality_floor=_min_quality_floor(f"{field}.min_quality_floor", message.min_quality_floor, objective),
        task_models=_task_models(f"{field}.task_models", message.task_models),
        cascade=message.cascade,
        session_time_to_live=fields.duration(
            f"{field}.session_time_to_live", life, least=timedelta(0), most=MAX_SESSION_TIME_TO_LIVE
        ),
        shadow_share=fields.share(f"{field}.shadow_share", message.shadow_share, most=MAX_SHADOW_SHARE),
    )


def _objective(field: str, message: pb.RoutingPolicy, best: Tier) -> Objective:
    match message.WhichOneof("objective"):
        case "quality_floor":
            return QualityFloor(fields.probability(f"{field}.quality_floor", message.quality_floor))
        case "spending_target":
            target = fields.money(f"{field}.spending_target", message.spending_target)
            if target <= 0:
                raise InvalidArgument.field(f"{field}.spending_target", "must be more than nothing")
            return SpendingTarget(NanoUsd(target))
        case "fixed_tier":
            fixed = fields.tier(f"{field}.fixed_tier", message.fixed_tier)
            if fixed > best:
                raise InvalidArgument.field(f"{field}.fixed_tier", "is above max_tier, must be at most that")
            return FixedTier(fixed)
        case _:
            return QualityFloor()


def _min_quality_floor(field: str, value: float, objective: Objective) -> float:
    """Not set: the default, or the floor itself where that is lower."""
    floor = objective.floor if isinstance(objective, QualityFloor) else 1.0
    if value == 0.0:
        return min(DEFAULT_MIN_QUALITY_FLOOR, floor)
    if fields.probability(field, value) > floor:
        raise InvalidArgument.field(field, "is above quality_floor, must be at most that")
    return value


def _task_models(field: str, messages: Iterable[pb.TaskModel]) -> tuple[tuple[Task, str], ...]:
    found: dict[Task, str] = {}
    for index, message in enumerate(messages):
        place = f"{field}[{index}]"
        if int(message.task) not in tuple(Task) or not message.task:
            raise InvalidArgument.field(f"{place}.task", "must be a kind of work")
        task = Task(message.task)
        if task in found:
            raise InvalidArgument.field(f"{place}.task", f"{task.name} was named before, must have one model")
        found[task] = fields.text(f"{place}.model", message.model, most=MAX_MODEL_CHARS)
    if len(found) > MAX_TASK_MODELS:
        raise InvalidArgument.field(field, f"are {len(found)}, must be at most {MAX_TASK_MODELS}")
    return tuple(sorted(found.items()))


def _semantic_cache_from(field: str, message: pb.SemanticCachePolicy) -> SemanticCachePolicy:
    return SemanticCachePolicy(
        max_error_share=fields.share(f"{field}.max_error_share", message.max_error_share, most=MAX_ERROR_SHARE),
        scope=_cache_scope(f"{field}.scope", message.scope),
        hit_price_share=_hit_price_share(f"{field}.hit_price_share", message.hit_price_share),
    )


def _hit_price_share(field: str, value: float) -> Millionths:
    """Refused rather than rounded: it is what hits are charged by."""
    try:
        return millionths(value)
    except ValueError as error:
        raise InvalidArgument.field(field, f"is {value!r}, {error}") from None


def hit_price_from(field: str, message: pb.HitPrice) -> HitPrice:
    """What an answer from a cache is to be charged."""
    try:
        return HitPrice(message.policy_version, Millionths(message.share_millionths))
    except ValueError as error:
        raise InvalidArgument.field(field, f"is wrong: {error}") from None


def _cache_scope(field: str, value: int) -> CacheScope:
    """Not set is treated as ORG."""
    try:
        return CacheScope(value or CacheScope.ORG)
    except ValueError:
        raise InvalidArgument.field(field, "must be ORG, TEAM or USER") from None


def _outage_mode(value: int) -> OutageMode:
    """Not set is treated as DENY."""
    try:
        return OutageMode(value or OutageMode.DENY)
    except ValueError:
        raise InvalidArgument.field("policy.outage_mode", "must be DENY, GRACE or ALLOW") from None
