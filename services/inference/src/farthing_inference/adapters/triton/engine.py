"""Runs prompts on Triton: one ModelStreamInfer stream for each request (docs/adr/0004).

Triton allows several on a stream, told apart by `id`. But a stream carries one traceparent, so that Triton's spans
could join only one request's trace; where a model takes no commands, cancelling a request means cancelling its stream;
and one slow reader would hold up the others through flow control. What a stream of its own costs is in the README.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator
from typing import Any, Final

from tritonclient.grpc import service_pb2

from farthing_inference.adapters.triton import commands
from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.adapters.triton.commands import DIALECTS, WANT_FINAL
from farthing_inference.adapters.triton.dialect import Dialect
from farthing_inference.adapters.triton.spans import CallSpan
from farthing_inference.adapters.triton.stream import LEAVING_S, InferStream, Patience
from farthing_inference.adapters.triton.tally import Tally
from farthing_inference.domain.generation import Progress, Sampling
from farthing_inference.domain.pools import Placement
from farthing_kit import tasks
from farthing_kit.clock import Clock
from farthing_kit.context import current_context
from farthing_kit.telemetry import Telemetry

LAST_WORDS_S: Final = 1.0


class TritonEngine:
    """The Engine port on Triton."""

    def __init__(self, channels: Channels, telemetry: Telemetry, *, clock: Clock, patience: Patience) -> None:
        self._channels = channels
        self._telemetry = telemetry
        self._clock = clock
        self._patience = patience
        self._leaving: set[asyncio.Task[None]] = set()

    async def generate(
        self, placement: Placement, prompt: str, sampling: Sampling, timeout_s: float
    ) -> AsyncGenerator[Progress, None]:
        """See ports.Engine."""
        dialect = DIALECTS[placement.model.adapter]
        span = CallSpan(self._telemetry, placement, sampling, self._clock)
        # A deadline of the call would cancel it: it is only there for what does not stop.
        limit_s = timeout_s + LEAVING_S if dialect.has_commands else timeout_s
        call = self._channels.stub(placement.server).ModelStreamInfer(timeout=limit_s, metadata=span.metadata())
        stream = InferStream(call, placement.model.context_tokens, self._patience, timeout_s)
        tally, over = Tally(), False
        request = _request(placement, prompt, sampling, dialect)
        try:
            await stream.send(request, more=dialect.has_commands)
            async for response in stream:
                progress = tally.add(dialect.read(response))
                span.progress(progress)
                stream.has_token = progress.output_tokens > 0
                if progress.finish is not None:
                    await stream.finish()
                    over = True
                yield progress
                if progress.finish is not None:
                    return
        except Exception as error:
            span.failed(error)
            raise
        finally:
            if dialect.has_commands and not over:
                self._leave(stream, commands.request(request.model_name, commands.STOP, request.id))
            else:
                stream.cancel()
            span.end()

    async def close(self) -> None:
        """Give what was left a moment to end by itself, and cut off the rest."""
        if self._leaving:
            await asyncio.wait(self._leaving, timeout=LAST_WORDS_S)
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)

    def _leave(self, stream: InferStream, stop: Any) -> None:
        """Behind the back of who leaves: that takes as long as the step under way."""
        task = tasks.spawn("leave", stream.leave(stop))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)


def _request(placement: Placement, prompt: str, sampling: Sampling, dialect: Dialect) -> Any:
    context = current_context()
    identity = context.request_id if context is not None else ""
    if dialect.has_commands:  # by which it is stopped: a second attempt is another one
        identity += f"-{secrets.token_hex(8)}"
    request = service_pb2.ModelInferRequest(model_name=placement.model.triton_model, id=identity)
    request.parameters[WANT_FINAL].bool_param = True
    dialect.fill(request, prompt, sampling)
    return request
