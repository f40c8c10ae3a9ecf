"""AdmissionService over gRPC."""

from __future__ import annotations

from typing import Any

from farthing.accounting.v1.admission_service_pb2 import (
    AuthorizeRequest,
    AuthorizeResponse,
    ExtendRequest,
    ExtendResponse,
    ReleaseRequest,
    ReleaseResponse,
    ReserveRequest,
    ReserveResponse,
)
from farthing.accounting.v1.admission_service_pb2_grpc import AdmissionServiceServicer
from farthing_accounting.app.authorizing import Authorizing
from farthing_accounting.app.holding import Holding
from farthing_accounting.domain.pricing import MAX_MODEL_CHARS
from farthing_accounting.domain.reservations import MAX_TIME_TO_LIVE, MIN_TIME_TO_LIVE
from farthing_accounting.handler import fields, messages, policies
from farthing_accounting.handler.callers import paying
from farthing_kit.wire import usage_from_message


class AdmissionHandler(AdmissionServiceServicer):
    """Who may spend, and how much is left."""

    def __init__(self, authorizing: Authorizing, holding: Holding) -> None:
        self._authorizing = authorizing
        self._holding = holding

    async def Authorize(self, request: AuthorizeRequest, context: Any) -> AuthorizeResponse:
        grant = await self._authorizing.authorize(request.api_key)
        return AuthorizeResponse(
            principal=messages.principal(grant.principal),
            policy=policies.policy(grant.policy),
            time_to_live=fields.span(grant.time_to_live),
        )

    async def Reserve(self, request: ReserveRequest, context: Any) -> ReserveResponse:
        held, quote = await self._holding.reserve(
            paying(),
            fields.text("reservation_id", request.reservation_id),
            fields.text("model", request.model, most=MAX_MODEL_CHARS),
            usage_from_message(request.estimate, "estimate"),
            fields.duration("time_to_live", request.time_to_live, least=MIN_TIME_TO_LIVE, most=MAX_TIME_TO_LIVE),
            policies.hit_price_from("hit_price", request.hit_price) if request.HasField("hit_price") else None,
        )
        return ReserveResponse(reservation=messages.reservation(held), quote=messages.quote(quote))

    async def Extend(self, request: ExtendRequest, context: Any) -> ExtendResponse:
        held = await self._holding.extend(
            paying(),
            fields.text("reservation_id", request.reservation_id),
            fields.text("idempotency_key", request.idempotency_key),
            usage_from_message(request.additional, "additional"),
            fields.duration("time_to_live", request.time_to_live, least=MIN_TIME_TO_LIVE, most=MAX_TIME_TO_LIVE),
        )
        return ExtendResponse(reservation=messages.reservation(held))

    async def Release(self, request: ReleaseRequest, context: Any) -> ReleaseResponse:
        await self._holding.release(paying(), fields.text("reservation_id", request.reservation_id))
        return ReleaseResponse()
