"""Values as Triton's raw tensors, and back. What cannot be read raises EngineFailed."""

from __future__ import annotations

import struct
from typing import Any

from tritonclient.grpc import service_pb2

from farthing_inference.domain.errors import EngineFailed


def add_text(request: Any, name: str, value: str) -> None:
    """Add a BYTES tensor of one string."""
    raw = value.encode()
    _add(request, name, "BYTES", struct.pack("<I", len(raw)) + raw)


def add_flag(request: Any, name: str, value: bool) -> None:
    """Add a BOOL tensor of one value."""
    _add(request, name, "BOOL", b"\x01" if value else b"\x00")


def outputs(response: Any) -> dict[str, bytes]:
    """The raw bytes of a response's tensors by name."""
    if len(response.outputs) != len(response.raw_output_contents):
        raise EngineFailed("a response without its contents")
    return {tensor.name: raw for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)}


def first_text(raw: bytes) -> bytes:
    """The first string of a BYTES tensor."""
    if len(raw) < 4:
        raise EngineFailed("a BYTES tensor without a string")
    (length,) = struct.unpack_from("<I", raw)
    if len(raw) < 4 + length:
        raise EngineFailed("a string that is cut short")
    return raw[4 : 4 + length]


def first_uint32(raw: bytes) -> int:
    """The first number of a UINT32 tensor."""
    if len(raw) < 4:
        raise EngineFailed("a UINT32 tensor without a number")
    (value,) = struct.unpack_from("<I", raw)
    return int(value)


def first_float32(raw: bytes) -> float:
    """The first number of an FP32 tensor."""
    if len(raw) < 4:
        raise EngineFailed("an FP32 tensor without a number")
    (value,) = struct.unpack_from("<f", raw)
    return float(value)


def _add(request: Any, name: str, datatype: str, raw: bytes) -> None:
    request.inputs.append(service_pb2.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=[1]))
    request.raw_input_contents.append(raw)
