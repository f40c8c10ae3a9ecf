"""One ModelStreamInfer call with one request on it, and the end of its answer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import grpc.aio

from farthing_inference.adapters.triton import failures
from farthing_inference.domain.errors import ServerStalled

# In a request: end the answer with an empty response if the last one was not marked. In a response: the mark.
WANT_FINAL: Final = "triton_enable_empty_final_response"
_FINAL: Final = "triton_final_response"
# How long Triton may take to close a stream whose answer is complete; afterwards we close it.
_CLOSING_S: Final = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may be silent: before the first token (its queue, the prompt) and between two."""

    first_s: float = 60.0
    next_s: float = 30.0


class InferStream:
    """Send once, then iterate over the responses that hold outputs. Failures come out as what they mean: ServerFailure,
    PromptTooLarge, DeadlineExceeded. Whoever reads sets `has_token`, from which on silence is judged differently."""

    def __init__(self, call: Any, context_tokens: int, patience: Patience) -> None:
        self._call = call
        self._context_tokens = context_tokens
        self._patience = patience
        self.has_token = False
        self._final = False

    async def send(self, request: Any) -> None:
        """Send the request, and say that no other follows."""
        # The call may be over already (connection refused): then the first read says why.
        async with _within(self._patience.first_s):
            with contextlib.suppress(asyncio.InvalidStateError):
                await self._call.write(request)
                await self._call.done_writing()

    def __aiter__(self) -> InferStream:
        return self

    async def __anext__(self) -> Any:
        while not self._final:
            message = await self._read()
            if message is grpc.aio.EOF:
                break
            if message.error_message:
                await self.finish()
                raise failures.of_text(message.error_message, self._context_tokens)
            self._final = is_final(message.infer_response)
            if message.infer_response.outputs:
                return message.infer_response
        raise StopAsyncIteration

    async def finish(self) -> None:
        """Let Triton close the stream of an answer that is over by itself: a cancellation that meets the final response
        is counted there as one, and has brought servers down (docs/adr/0004)."""
        with contextlib.suppress(grpc.aio.AioRpcError, TimeoutError):
            async with asyncio.timeout(_CLOSING_S):
                while await self._call.read() is not grpc.aio.EOF:
                    pass

    def cancel(self) -> None:
        """Stop the model, at once. Does nothing to a call that is over."""
        self._call.cancel()

    async def _read(self) -> Any:
        async with _within(self._patience.next_s if self.has_token else self._patience.first_s):
            return await self._call.read()


@contextlib.asynccontextmanager
async def _within(limit_s: float) -> AsyncIterator[None]:
    """Bounds a wait, and says what its failure means."""
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError:
        raise ServerStalled("silent for too long") from None
    except grpc.aio.AioRpcError as error:
        raise failures.of_rpc(error) from None


def is_final(response: Any) -> bool:
    return _FINAL in response.parameters and bool(response.parameters[_FINAL].bool_param)
