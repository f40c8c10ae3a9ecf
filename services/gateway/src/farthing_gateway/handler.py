"""farthing.gateway.v1.GatewayService: translates calls into use cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Final

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1 import gateway_service_pb2_grpc as rpc
from farthing_gateway.app.gateway import Gateway
from farthing_gateway.domain.events import Decision, Delta
from farthing_gateway.domain.events import Final as FinalEvent
from farthing_gateway.domain.prompt import Prompt
from farthing_gateway.wire import (
    catalogue_to_message,
    decision_to_message,
    event_to_message,
    final_to_message,
    prompt_from_message,
)

AUTHORIZATION: Final = "authorization"
SCHEME: Final = "bearer "


class GatewayHandler(rpc.GatewayServiceServicer):
    """The public door: callers show an API key, not a signed context."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def admit(self, context: Any) -> None:
        """Let in who shows a key; nothing of the message is read before."""
        await self._gateway.authentication.admit(api_key(context))

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        async with aclosing(self._gateway.answer(api_key(context), self._prompt(request.prompt))) as events:
            async for event in events:
                yield event_to_message(event)

    async def Complete(self, request: pb.CompleteRequest, context: Any) -> pb.CompleteResponse:
        response = pb.CompleteResponse()
        texts: list[str] = []
        async with aclosing(self._gateway.answer(api_key(context), self._prompt(request.prompt))) as events:
            async for event in events:
                match event:
                    case Decision():
                        response.decision.CopyFrom(decision_to_message(event))
                    case Delta():
                        texts.append(event.text)
                    case FinalEvent():
                        response.final.CopyFrom(final_to_message(event))
        response.text = "".join(texts)
        return response

    async def ListModels(self, request: pb.ListModelsRequest, context: Any) -> pb.ListModelsResponse:
        return catalogue_to_message(await self._gateway.list_models(api_key(context)))

    def _prompt(self, message: pb.Prompt) -> Prompt:
        return prompt_from_message(message, self._gateway.limits)


def api_key(context: Any) -> str | None:
    """What the caller shows: the key behind `authorization: Bearer`."""
    for key, value in context.invocation_metadata():
        if key == AUTHORIZATION:
            return value[len(SCHEME) :].strip() if value[: len(SCHEME)].lower() == SCHEME else None
    return None
