"""PriceService over gRPC."""

from __future__ import annotations

from typing import Any

from farthing.accounting.v1.price_service_pb2 import (
    ListPricesRequest,
    ListPricesResponse,
    SetPriceRequest,
    SetPriceResponse,
)
from farthing.accounting.v1.price_service_pb2_grpc import PriceServiceServicer
from farthing_accounting.app.pricing import Pricing
from farthing_accounting.handler import fields, messages


class PriceHandler(PriceServiceServicer):
    """What tokens cost."""

    def __init__(self, pricing: Pricing) -> None:
        self._pricing = pricing

    async def ListPrices(self, request: ListPricesRequest, context: Any) -> ListPricesResponse:
        return ListPricesResponse(prices=[messages.price(price) for price in await self._pricing.in_force()])

    async def SetPrice(self, request: SetPriceRequest, context: Any) -> SetPriceResponse:
        price = await self._pricing.set_price(messages.price_from(request.price), fields.once(request))
        return SetPriceResponse(price=messages.price(price))
