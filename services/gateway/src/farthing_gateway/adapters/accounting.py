"""Accounting over gRPC: keys, reservations, prices."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from farthing.accounting.v1 import admission_service_pb2 as admission_pb
from farthing.accounting.v1.admission_service_pb2_grpc import AdmissionServiceStub
from farthing.accounting.v1.policy_pb2 import Policy as PolicyMessage
from farthing.accounting.v1.policy_pb2 import RoutingPolicy as RoutingMessage
from farthing.accounting.v1.policy_pb2 import SemanticCachePolicy as SemanticCacheMessage
from farthing.accounting.v1.price_service_pb2 import ListPricesRequest
from farthing.accounting.v1.price_service_pb2_grpc import PriceServiceStub
from farthing_gateway.adapters.wire import hit_price_to_message, known, quote_from_message
from farthing_gateway.domain.catalogue import ModelPrice
from farthing_gateway.domain.grants import Grant
from farthing_gateway.domain.model import Task, Tier
from farthing_gateway.domain.policy import (
    DEFAULT_MIN_QUALITY_FLOOR,
    DEFAULT_OBJECTIVE,
    CacheScope,
    FixedTier,
    Objective,
    OutageMode,
    Policy,
    QualityFloor,
    RoutingPolicy,
    SemanticCachePolicy,
    SpendingTarget,
)
from farthing_gateway.ports import Reservation
from farthing_kit.context import Principal, service_context, use_context
from farthing_kit.interceptors.client import Channel
from farthing_kit.money import HitPrice, millionths
from farthing_kit.usage import TokenUsage
from farthing_kit.wire import money_from_message, prices_from_message, usage_to_message

# All of them are idempotent: Authorize, ListPrices by nature, Reserve and Release by the id of the reservation.
RETRIED: Final = ("farthing.accounting.v1.AdmissionService", "farthing.accounting.v1.PriceService")
DEFAULT_MAX_OUTPUT_TOKENS: Final = 1024


class GrpcAccounting:
    """The ports KeyAuthority, Admission and Prices."""

    def __init__(self, channel: Channel, *, timeout_s: float) -> None:
        self._admission = AdmissionServiceStub(channel)
        self._prices = PriceServiceStub(channel)
        self._timeout_s = timeout_s

    async def authorize(self, api_key: str) -> Grant:
        request = admission_pb.AuthorizeRequest(api_key=api_key)
        response = await self._admission.Authorize(request, timeout=self._timeout_s)
        who = response.principal
        return Grant(
            principal=Principal(who.org, who.team, who.user, who.key_id),
            policy=policy_from_message(response.policy),
            time_to_live_s=response.time_to_live.ToTimedelta().total_seconds(),
        )

    async def reserve(
        self, reservation_id: str, model: str, estimate: TokenUsage, life_s: float, hit_price: HitPrice | None = None
    ) -> Reservation:
        life = Duration()
        life.FromTimedelta(timedelta(seconds=life_s))
        request = admission_pb.ReserveRequest(
            reservation_id=reservation_id,
            model=model,
            estimate=usage_to_message(estimate),
            time_to_live=life,
            hit_price=None if hit_price is None else hit_price_to_message(hit_price),
        )
        response = await self._admission.Reserve(request, timeout=self._timeout_s)
        return Reservation(
            reservation_id=response.reservation.reservation_id,
            amount=money_from_message(response.reservation.amount, "reservation.amount"),
            quote=quote_from_message(response.quote),
            budget_pace=response.reservation.budget_pace,
        )

    async def release(self, reservation_id: str) -> None:
        await self._admission.Release(
            admission_pb.ReleaseRequest(reservation_id=reservation_id), timeout=self._timeout_s
        )

    async def list_prices(self) -> list[ModelPrice]:
        with use_context(service_context("gateway")):
            response = await self._prices.ListPrices(ListPricesRequest(), timeout=self._timeout_s)
        return [
            ModelPrice(
                model=price.model,
                tier=known(Tier, price.tier, Tier.UNSPECIFIED),
                prices=prices_from_message(price.prices),
                version=price.price_version,
            )
            for price in response.prices
        ]


def policy_from_message(message: PolicyMessage) -> Policy:
    """The policy; what is not set has the strictest sensible meaning."""
    max_tier = known(Tier, message.max_tier, Tier.LARGE) or Tier.LARGE
    return Policy(
        version=message.version,
        default_tier=min(known(Tier, message.default_tier, max_tier) or max_tier, max_tier),
        max_tier=max_tier,
        max_output_tokens=message.max_output_tokens or DEFAULT_MAX_OUTPUT_TOKENS,
        cache_enabled=message.cache_enabled,
        cache_time_to_live=message.cache_time_to_live.ToTimedelta(),
        outage_mode=known(OutageMode, message.outage_mode, OutageMode.DENY),
        outage_grace=money_from_message(message.outage_grace, "policy.outage_grace"),
        routing=_routing(message.routing, max_tier),
        semantic_cache=_semantic_cache(message.semantic_cache),
    )


def _routing(message: RoutingMessage, max_tier: Tier) -> RoutingPolicy:
    return RoutingPolicy(
        objective=_objective(message, max_tier),
        min_quality_floor=message.min_quality_floor or DEFAULT_MIN_QUALITY_FLOOR,
        task_models={known(Task, each.task, Task.UNSPECIFIED): each.model for each in message.task_models},
        cascade=message.cascade,
        session_time_to_live=message.session_time_to_live.ToTimedelta(),
        shadow_share=message.shadow_share,
    )


def _objective(message: RoutingMessage, max_tier: Tier) -> Objective:
    match message.WhichOneof("objective"):
        case "spending_target":
            return SpendingTarget(money_from_message(message.spending_target, "policy.routing.spending_target"))
        case "fixed_tier":
            return FixedTier(min(known(Tier, message.fixed_tier, max_tier) or max_tier, max_tier))
        case "quality_floor":
            return QualityFloor(message.quality_floor)
        case _:
            return DEFAULT_OBJECTIVE


def _semantic_cache(message: SemanticCacheMessage) -> SemanticCachePolicy:
    return SemanticCachePolicy(
        max_error_share=message.max_error_share,
        scope=known(CacheScope, message.scope, CacheScope.USER) or CacheScope.ORG,
        hit_price_share=millionths(message.hit_price_share),
    )
