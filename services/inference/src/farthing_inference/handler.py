"""InferenceService over gRPC: messages to values, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from farthing.inference.v1 import inference_service_pb2 as pb
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceServicer
from farthing.type.v1 import generation_pb2, model_pb2
from farthing_inference.app.generate import Generate
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.generation import (
    Chunk,
    Event,
    FinishReason,
    Generation,
    Message,
    Role,
    Sampling,
    Started,
)
from farthing_inference.domain.pools import Market, ModelSpec, PoolState, PoolStatus, Tier
from farthing_kit.errors import InvalidArgument
from farthing_kit.wire import money_to_message, usage_to_message

NAME = "farthing.inference.v1.InferenceService"

_ROLES = {
    model_pb2.CHAT_ROLE_SYSTEM: Role.SYSTEM,
    model_pb2.CHAT_ROLE_USER: Role.USER,
    model_pb2.CHAT_ROLE_ASSISTANT: Role.ASSISTANT,
}
_FINISH_REASONS = {
    FinishReason.STOP: model_pb2.FINISH_REASON_STOP,
    FinishReason.LENGTH: model_pb2.FINISH_REASON_LENGTH,
}
_MARKETS = {
    Market.ON_DEMAND: pb.MARKET_ON_DEMAND,
    Market.SPOT: pb.MARKET_SPOT,
    Market.RESERVED: pb.MARKET_RESERVED,
    Market.OWNED: pb.MARKET_OWNED,
}
_STATES = {
    PoolState.ACTIVE: pb.POOL_STATE_ACTIVE,
    PoolState.DRAINING: pb.POOL_STATE_DRAINING,
    PoolState.UNREACHABLE: pb.POOL_STATE_UNREACHABLE,
}
_TIERS = {
    Tier.NONE: model_pb2.TIER_UNSPECIFIED,
    Tier.SMALL: model_pb2.TIER_SMALL,
    Tier.MEDIUM: model_pb2.TIER_MEDIUM,
    Tier.LARGE: model_pb2.TIER_LARGE,
}
_DRAINING = {pb.POOL_STATE_ACTIVE: False, pb.POOL_STATE_DRAINING: True}


class InferenceHandler(InferenceServiceServicer):
    """Validate, translate, call the use case, translate back."""

    def __init__(self, generate: Generate, fleet: Fleet) -> None:
        self._generate = generate
        self._fleet = fleet

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        async with aclosing(self._generate(_generation(request))) as events:
            async for event in events:
                yield _response(event)

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> pb.ListPoolsResponse:
        return pb.ListPoolsResponse(pools=[_pool(status) for status in self._fleet.pools()])

    async def SetPoolState(self, request: pb.SetPoolStateRequest, context: Any) -> pb.SetPoolStateResponse:
        if request.state not in _DRAINING:
            raise InvalidArgument.field("state", "must be POOL_STATE_ACTIVE or POOL_STATE_DRAINING")
        status = self._fleet.set_draining(request.pool, _DRAINING[request.state])
        return pb.SetPoolStateResponse(pool=_pool(status))


def _generation(request: pb.GenerateRequest) -> Generation:
    messages = tuple(
        Message(_role(index, message.role), message.content) for index, message in enumerate(request.messages)
    )
    sampling = replace(_sampling(request.sampling), logprob=request.return_mean_token_logprob)
    return Generation(request.model, messages, sampling)


def _role(index: int, role: model_pb2.ChatRole.ValueType) -> Role:
    if role not in _ROLES:
        raise InvalidArgument.field(f"messages[{index}].role", "must be SYSTEM, USER or ASSISTANT")
    return _ROLES[role]


def _sampling(message: model_pb2.Sampling) -> Sampling:
    """Unset fields take the contract's defaults. The output limit has none: unset it is 0, which `check` refuses."""
    return Sampling(
        max_output_tokens=message.max_output_tokens,
        temperature=message.temperature,
        top_p=message.top_p if message.HasField("top_p") else 1.0,
        seed=message.seed,
        stop=tuple(message.stop),
    )


def _response(event: Event) -> pb.GenerateResponse:
    if isinstance(event, Chunk):
        return pb.GenerateResponse(
            chunk=generation_pb2.GenerationChunk(
                text=event.text, input_tokens=event.input_tokens, output_tokens=event.output_tokens
            )
        )
    if isinstance(event, Started):
        return pb.GenerateResponse(started=pb.Started(pool=event.pool, quantization=event.quantization))
    return pb.GenerateResponse(
        finished=generation_pb2.GenerationFinished(
            finish_reason=_FINISH_REASONS[event.reason],
            usage=usage_to_message(event.usage),
            mean_token_logprob=event.mean_token_logprob,
        )
    )


def _pool(status: PoolStatus) -> pb.Pool:
    spec = status.spec
    return pb.Pool(
        name=spec.name,
        accelerator=spec.accelerator,
        market=_MARKETS[spec.market],
        price_per_hour=money_to_message(spec.price_per_hour),
        models=[_model(model, model.name in status.ready_models) for model in spec.models],
        state=_STATES[status.state],
        in_flight=status.in_flight,
    )


def _model(spec: ModelSpec, ready: bool) -> pb.PoolModel:
    return pb.PoolModel(
        name=spec.name,
        tier=_TIERS[spec.tier],
        weights=spec.weights,
        quantization=spec.quantization,
        context_tokens=spec.context_tokens,
        ready=ready,
    )
