"""Asks a Triton server which of its models are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.domain.errors import ServerUnreachable
from farthing_inference.domain.pools import ServerAddress

_DOWN: Final = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED})


class TritonProbe:
    """The Probe port on Triton. ServerReady is not asked: it says no as soon as any one model has failed."""

    def __init__(self, channels: Channels, *, timeout_s: float) -> None:
        self._channels = channels
        self._timeout_s = timeout_s

    async def ready_models(self, server: ServerAddress, triton_models: Sequence[str]) -> frozenset[str]:
        """See ports.Probe."""
        names = sorted(set(triton_models))
        answers = await asyncio.gather(*(self._is_ready(server, name) for name in names), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
        return frozenset(name for name, ready in zip(names, answers, strict=True) if ready)

    async def _is_ready(self, server: ServerAddress, name: str) -> bool:
        stub = self._channels.stub(server)
        try:
            answer = await stub.ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() in _DOWN:
                raise ServerUnreachable("no answer to a health check") from None
            return False  # the server answers, and says that it does not know the model
        return bool(answer.ready)
