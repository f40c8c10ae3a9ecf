"""A gRPC server in this process that says what a test tells it to, in Triton's protocol: for faults that a real Triton
does not show on demand. Everything else is tested on a real one."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from farthing_inference.domain.pools import ServerAddress

Script = Callable[["ScriptedTriton", Any, Any], AsyncIterator[Any]]


@dataclass
class ScriptedTriton(service_pb2_grpc.GRPCInferenceServiceServicer):  # type: ignore[misc]
    """Keeps the requests it got; answers with `script(self, request, context)`."""

    script: Script
    address: ServerAddress = ServerAddress("")
    requests: list[Any] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)

    async def ModelStreamInfer(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            async for answer in self.script(self, request, context):
                yield answer

    async def ModelReady(self, request: Any, context: Any) -> Any:
        if request.name == "loading":
            return service_pb2.ModelReadyResponse(ready=False)
        if request.name == "unknown":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        if request.name == "broken":
            await context.abort(grpc.StatusCode.UNAVAILABLE, "shutting down")
        return service_pb2.ModelReadyResponse(ready=True)


@asynccontextmanager
async def scripted(script: Script) -> AsyncIterator[ScriptedTriton]:
    """The server, listening on a free port while the block runs."""
    servicer = ScriptedTriton(script)
    server = grpc.aio.server()
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(servicer, server)
    servicer.address = ServerAddress(f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}")
    await server.start()
    try:
        yield servicer
    finally:
        await server.stop(0)


def piece(
    text: bytes = b"",
    *,
    new: int = 1,
    finish: bytes = b"None",
    prompt: int | None = 5,
    logprob: float | None = None,
    final: bool = False,
) -> Any:
    """A response in the vLLM backend's tensors."""
    response = service_pb2.ModelInferResponse()
    _add(response, "text_output", "BYTES", struct.pack("<I", len(text)) + text)
    _add(response, "finish_reason", "BYTES", struct.pack("<I", len(finish)) + finish)
    _add(response, "num_output_tokens", "UINT32", struct.pack("<I", new))
    if prompt is not None:
        _add(response, "num_input_tokens", "UINT32", struct.pack("<I", prompt))
    if logprob is not None:
        _add(response, "cumulative_logprob", "FP32", struct.pack("<f", logprob))
    response.parameters["triton_final_response"].bool_param = final
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def final() -> Any:
    """Triton's empty final response."""
    response = service_pb2.ModelInferResponse()
    response.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def told(text: bytes) -> Any:
    """The answer to a command."""
    response = service_pb2.ModelInferResponse()
    _add(response, "text_output", "BYTES", struct.pack("<I", len(text)) + text)
    response.parameters["triton_final_response"].bool_param = True
    return service_pb2.ModelStreamInferResponse(infer_response=response)


def command_of(request: Any) -> str:
    """The command in a request; empty for a generation."""
    found = {item.name: raw for item, raw in zip(request.inputs, request.raw_input_contents, strict=True)}
    return bytes(found.get("command", b"")[4:]).decode()


def error(text: str) -> Any:
    """An error inside the stream."""
    return service_pb2.ModelStreamInferResponse(error_message=text)


def says(*answers: Any, then: Callable[[Any], Awaitable[None]] | None = None) -> Script:
    """A script of fixed answers; `then(context)` runs after them."""

    async def script(triton: ScriptedTriton, request: Any, context: Any) -> AsyncIterator[Any]:
        for answer in answers:
            yield answer
        if then is not None:
            await then(context)

    return script


def bare() -> Any:
    """A response that names a tensor and does not hold it."""
    return service_pb2.ModelStreamInferResponse(infer_response={"outputs": [{"name": "text_output"}]})


def _add(response: Any, name: str, datatype: str, raw: bytes) -> None:
    response.outputs.add(name=name, datatype=datatype, shape=[1])
    response.raw_output_contents.append(raw)
