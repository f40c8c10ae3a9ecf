"""What Triton's errors mean. Their texts go no further than this: they quote prompts, paths and memory names."""

from __future__ import annotations

import re
from typing import Final

import grpc
import grpc.aio

from farthing_inference.domain.errors import (
    EmptyPrompt,
    EngineFailed,
    ModelNotLoaded,
    PromptTooLarge,
    ServerFailure,
    ServerFull,
    ServerUnreachable,
)
from farthing_kit.errors import DeadlineExceeded, FarthingError

# vLLM: "The decoder prompt (length 17772) is longer than the maximum model length of 16384."
# TensorRT-LLM: "Prompt length (200) exceeds maximum input length (1)".
_TOO_LONG: Final = re.compile(
    r"longer than the (?:maximum )?(?:model|context) length|exceeds? (?:the )?(?:maximum|max|available)?[ _]?"
    r"(?:input|sequence|prompt|context) (?:length|size|window)|prompt (?:is )?too long|maximum context length",
    re.IGNORECASE,
)
# Ours: "the prompt is empty". vLLM: "The decoder prompt cannot be empty".
_EMPTY: Final = re.compile(r"prompt (?:is|cannot be) empty", re.IGNORECASE)
_LENGTH: Final = re.compile(r"(?:length|prompt)\D{0,12}(\d{1,9})", re.IGNORECASE)

_MEANINGS: Final[tuple[tuple[re.Pattern[str], type[ServerFailure], str], ...]] = (
    (re.compile(r"maximum queue size|queue is full", re.I), ServerFull, "queue full"),
    (re.compile(r"request timeout expired", re.I), ServerFull, "waited too long in the queue"),
    (re.compile(r"unknown model|no available versions|model .{0,80}not (?:ready|found|loaded)", re.I), ModelNotLoaded,
     "model not loaded"),
    (re.compile(r"unhealthy|server (?:is )?(?:exiting|stopping|shutting down|not ready)", re.I), ServerUnreachable,
     "server not ready"),
)  # fmt: skip

# What grpc.aio itself says, with INTERNAL, of a call whose connection broke before its request was written.
_WRITE_FAILED: Final = "Internal error from Core"


def of_text(text: str, context_tokens: int) -> FarthingError | ServerFailure:
    """The meaning of an error message inside a stream."""
    if _TOO_LONG.search(text):
        counted = _LENGTH.search(text)
        return PromptTooLarge.in_tokens(context_tokens, int(counted[1]) if counted else None)
    if _EMPTY.search(text):
        return EmptyPrompt()
    for pattern, kind, cause in _MEANINGS:
        if pattern.search(text):
            return kind(cause)
    return EngineFailed("the model raised an error")


def of_rpc(error: grpc.aio.AioRpcError) -> FarthingError | ServerFailure:
    """The meaning of a broken call."""
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return too_late()
    if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return ServerUnreachable(code.name.lower())
    if error.details() == _WRITE_FAILED:
        return ServerUnreachable("broken while it was written to")
    return EngineFailed(f"status {code.name}")


def too_late() -> FarthingError:
    """The caller's time is up."""
    return DeadlineExceeded("the answer was not complete within the deadline; allow more time, or ask for less")
