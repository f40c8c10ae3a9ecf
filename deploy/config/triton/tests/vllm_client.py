"""A client that speaks the tensors of Triton's vLLM backend, for tests."""

import json
import math
import struct
from dataclasses import dataclass
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from farthing_inference.adapters.triton import commands

CALL_TIMEOUT_S = 60.0
ZERO = bytes(4)
FLAGS = (
    "stream",
    "exclude_input_in_output",
    "return_finish_reason",
    "return_num_input_tokens",
    "return_num_output_tokens",
)


@dataclass(frozen=True)
class Reply:
    """Everything that came back for one request."""

    pieces: tuple[str, ...] = ()
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str = ""
    logprob: float = math.nan
    error: str = ""

    @property
    def text(self) -> str:
        return "".join(self.pieces)


class Client:
    """Speaks the vLLM backend's tensors to one server."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(channel)

    async def call(
        self,
        model: str,
        prompt: str | bytes,
        *,
        off: frozenset[str] = frozenset(),
        want_logprob: bool = False,
        **parameters: Any,
    ) -> Any:
        """A stream with one request on it. `off`: the flags that are false."""
        call = self._stub.ModelStreamInfer(timeout=CALL_TIMEOUT_S)
        await call.write(infer_request(model, prompt, parameters, off, want_logprob))
        await call.done_writing()
        return call

    async def open(self, model: str, prompt: str, identity: str, **parameters: Any) -> Any:
        """A stream with one request of a name on it, on which a command may follow."""
        call = self._stub.ModelStreamInfer(timeout=CALL_TIMEOUT_S)
        request = infer_request(model, prompt, parameters, frozenset())
        request.id = identity
        await call.write(request)
        return call

    async def command(self, call: Any, model: str, command: str, identity: str = "") -> None:
        """A command on an open stream, and its half-close."""
        await call.write(commands.request(model, command, identity))
        await call.done_writing()

    async def asked(self, model: str, command: str) -> Reply:
        """The answer to a command."""
        call = self._stub.ModelStreamInfer(timeout=CALL_TIMEOUT_S)
        await self.command(call, model, command)
        return await reply_of(call)

    async def ask(self, model: str, prompt: str | bytes, **options: Any) -> Reply:
        """The whole answer to one request; options as of `call`."""
        return await reply_of(await self.call(model, prompt, **options))


async def reply_of(call: Any) -> Reply:
    """What comes on a stream from now on."""
    reply = Reply()
    while (message := await call.read()) is not grpc.aio.EOF:
        if message.error_message:
            return Reply(reply.pieces, error=message.error_message)
        reply = extended(reply, message.infer_response)
    return reply


def infer_request(
    model: str, prompt: str | bytes, parameters: dict[str, Any], off: frozenset[str], want_logprob: bool = False
) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model)
    for name, text in (("text_input", prompt), ("sampling_parameters", json.dumps(parameters))):
        raw = text if isinstance(text, bytes) else text.encode()
        add(request, name, "BYTES", struct.pack("<I", len(raw)) + raw)
    for name in FLAGS:
        add(request, name, "BOOL", b"\x00" if name in off else b"\x01")
    if want_logprob:
        add(request, "return_cumulative_logprob", "BOOL", b"\x01")
    return request


def add(request: Any, name: str, datatype: str, raw: bytes) -> None:
    request.inputs.append(service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=[1]))
    request.raw_input_contents.append(raw)


def extended(reply: Reply, response: Any) -> Reply:
    found = {tensor.name: raw for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)}
    if not found:
        return reply
    return Reply(
        pieces=(*reply.pieces, found["text_output"][4:].decode()),
        input_tokens=struct.unpack("<I", found.get("num_input_tokens", ZERO))[0],
        output_tokens=reply.output_tokens + struct.unpack("<I", found.get("num_output_tokens", ZERO))[0],
        finish_reason=found.get("finish_reason", ZERO)[4:].decode(),
        logprob=struct.unpack("<f", found["cumulative_logprob"])[0] if "cumulative_logprob" in found else math.nan,
    )
