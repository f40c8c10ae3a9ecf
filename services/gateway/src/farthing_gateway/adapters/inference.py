"""Inference over gRPC: which models there are."""

from __future__ import annotations

from typing import Final

from farthing.inference.v1 import inference_service_pb2 as pb
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing_gateway.adapters.wire import known
from farthing_gateway.domain.catalogue import ServedModel
from farthing_gateway.domain.model import Tier
from farthing_kit.context import service_context, use_context
from farthing_kit.interceptors.client import Channel

RETRIED: Final = ("farthing.inference.v1.InferenceService/ListPools",)


class GrpcPools:
    """The Pools port."""

    def __init__(self, channel: Channel, *, timeout_s: float) -> None:
        self._stub = InferenceServiceStub(channel)
        self._timeout_s = timeout_s

    async def list_models(self) -> list[ServedModel]:
        with use_context(service_context("gateway")):
            response = await self._stub.ListPools(pb.ListPoolsRequest(), timeout=self._timeout_s)
        return [_model(model, pool) for pool in response.pools for model in pool.models]


def _model(model: pb.PoolModel, pool: pb.Pool) -> ServedModel:
    return ServedModel(
        name=model.name,
        tier=known(Tier, model.tier, Tier.UNSPECIFIED),
        weights=model.weights,
        quantization=model.quantization,
        context_tokens=model.context_tokens,
        available=model.ready and pool.state == pb.PoolState.POOL_STATE_ACTIVE,
    )
