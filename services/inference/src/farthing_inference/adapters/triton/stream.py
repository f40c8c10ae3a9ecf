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
from farthing_kit import tasks

_FINAL: Final = "triton_final_response"  # the mark of the last response
# How long Triton may take to close a stream whose answer is complete, or whose model was told to stop: a batch of a
# prompt under way is computed to its end. Afterwards we cancel it.
_CLOSING_S: Final = 0.5
LEAVING_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a server may be silent: before the first token (its queue, the prompt) and between two."""

    first_s: float = 60.0
    next_s: float = 30.0


class InferStream:
    """Send once, then iterate over the responses that hold outputs. Failures come out as what they mean: ServerFailure,
    PromptTooLarge, DeadlineExceeded. Whoever reads sets `has_token`, from which on silence is judged differently.

    In the end `finish`, `leave` or `cancel`. Where it can be helped nothing is cancelled: a cancellation that meets the
    last response brings Triton 2.51 down, once in a thousand times (docs/adr/0004)."""

    def __init__(self, call: Any, context_tokens: int, patience: Patience, timeout_s: float) -> None:
        self._call = call
        self._end_s = asyncio.get_running_loop().time() + timeout_s
        self._context_tokens = context_tokens
        self._patience = patience
        self.has_token = False
        self._final = False
        self._reading: asyncio.Future[Any] | None = None

    async def send(self, request: Any, *, more: bool = False) -> None:
        """Send the request, and unless there may be `more` to say, that no other follows."""
        # The call may be over already (connection refused): then the first read says why.
        async with self._within(self._patience.first_s):
            with contextlib.suppress(asyncio.InvalidStateError):
                await self._call.write(request)
                if not more:
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
        """Let Triton close the stream of an answer that is over."""
        await self._close(_CLOSING_S)

    async def leave(self, stop: Any) -> None:
        """End an answer that nobody wants any more: by the request `stop`, and by force if that does not help."""
        try:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._call.write(stop)
                await self._close(LEAVING_S)
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Cut it off, at once. Does nothing to a call that is over."""
        self._call.cancel()

    async def _close(self, limit_s: float) -> None:
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError, TimeoutError):
            async with asyncio.timeout(limit_s):
                await self._call.done_writing()
                while await self._message() is not grpc.aio.EOF:
                    pass

    async def _read(self) -> Any:
        async with self._within(self._patience.next_s if self.has_token else self._patience.first_s):
            return await self._message()

    @contextlib.asynccontextmanager
    async def _within(self, limit_s: float) -> AsyncIterator[None]:
        """Bounds a wait, by the end of all too, and says what its failure means."""
        left_s = self._end_s - asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout(min(limit_s, left_s)):
                yield
        except TimeoutError:
            raise failures.too_late() if left_s <= limit_s else ServerStalled("silent for too long") from None
        except grpc.aio.AioRpcError as error:
            raise failures.of_rpc(error) from None

    async def _message(self) -> Any:
        """The next message. Whoever stops waiting for it does not cancel the call, as they would through `read`."""
        if self._reading is None:
            self._reading = tasks.awaited("read", self._call.read())
            self._reading.add_done_callback(lambda read: read.cancelled() or read.exception())
        await asyncio.wait({self._reading})
        read, self._reading = self._reading, None
        return grpc.aio.EOF if read.cancelled() else read.result()


def is_final(response: Any) -> bool:
    return _FINAL in response.parameters and bool(response.parameters[_FINAL].bool_param)
