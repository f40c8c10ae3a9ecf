"""Asks a Triton server which of its models are ready."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Final

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2

from farthing_inference.adapters.triton import commands, tensors
from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.adapters.triton.commands import DIALECTS
from farthing_inference.adapters.triton.stream import InferStream, Patience
from farthing_inference.domain.errors import EngineFailed, ServerUnreachable
from farthing_inference.domain.pools import ModelSpec, ServerAddress
from farthing_kit.errors import FarthingError

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

    async def control_tokens(self, server: ServerAddress, model: ModelSpec) -> Sequence[str]:
        """See ports.Probe."""
        if not DIALECTS[model.adapter].has_commands:
            return ()
        call = self._channels.stub(server).ModelStreamInfer(timeout=self._timeout_s)
        stream = InferStream(call, model.context_tokens, Patience(), self._timeout_s)
        try:
            await stream.send(commands.request(model.triton_model, commands.CONTROL_TOKENS))
            answers = [tensors.outputs(response) async for response in stream]
            await stream.finish()
            return _texts(answers[0]["text_output"])
        except (IndexError, KeyError):
            raise EngineFailed("no control tokens") from None
        except FarthingError:
            raise ServerUnreachable("no answer to a health check") from None
        finally:
            stream.cancel()

    async def _is_ready(self, server: ServerAddress, name: str) -> bool:
        stub = self._channels.stub(server)
        try:
            answer = await stub.ModelReady(service_pb2.ModelReadyRequest(name=name), timeout=self._timeout_s)
        except grpc.aio.AioRpcError as error:
            if error.code() in _DOWN:
                raise ServerUnreachable("no answer to a health check") from None
            return False  # the server answers, and says that it does not know the model
        return bool(answer.ready)


def _texts(raw: bytes) -> list[str]:
    try:
        found = json.loads(tensors.first_text(raw))
    except ValueError:
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise EngineFailed("control tokens that are no list of strings")
    return found
