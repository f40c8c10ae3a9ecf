"""Runs prompts on Triton: one ModelStreamInfer stream for each request.

Why not one stream for many requests, told apart by `id`, as Triton allows: a stream carries one traceparent, so that
Triton's spans could join only one request's trace; cancelling a request means cancelling its stream; and one slow
reader would hold up the others through flow control. What a stream of its own costs is measured in the README.
Multiplexing would change stream.py only: a writer task and a table of waiting requests for each server, and another
way to cancel.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Final

from tritonclient.grpc import service_pb2

from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.adapters.triton.dialect import Dialect
from farthing_inference.adapters.triton.spans import CallSpan
from farthing_inference.adapters.triton.stream import WANT_FINAL, InferStream, Patience
from farthing_inference.adapters.triton.tally import Tally
from farthing_inference.adapters.triton.vllm import VllmDialect
from farthing_inference.domain.generation import Progress, Sampling
from farthing_inference.domain.pools import Placement
from farthing_kit.clock import Clock
from farthing_kit.context import current_context
from farthing_kit.telemetry import Telemetry

DIALECTS: Final[Mapping[str, Dialect]] = {"vllm": VllmDialect()}


class TritonEngine:
    """The Engine port on Triton."""

    def __init__(self, channels: Channels, telemetry: Telemetry, *, clock: Clock, patience: Patience) -> None:
        self._channels = channels
        self._telemetry = telemetry
        self._clock = clock
        self._patience = patience

    async def generate(
        self, placement: Placement, prompt: str, sampling: Sampling, timeout_s: float
    ) -> AsyncGenerator[Progress, None]:
        """See ports.Engine."""
        dialect = DIALECTS[placement.model.adapter]
        span = CallSpan(self._telemetry, placement, sampling, self._clock)
        call = self._channels.stub(placement.server).ModelStreamInfer(timeout=timeout_s, metadata=span.metadata())
        stream = InferStream(call, placement.model.context_tokens, self._patience)
        tally = Tally()
        try:
            await stream.send(_request(placement, prompt, sampling, dialect))
            async for response in stream:
                progress = tally.add(dialect.read(response))
                span.progress(progress)
                stream.has_token = progress.output_tokens > 0
                if progress.finish is not None:
                    await stream.finish()
                yield progress
                if progress.finish is not None:
                    return
        except Exception as error:
            span.failed(error)
            raise
        finally:
            stream.cancel()
            span.end()


def _request(placement: Placement, prompt: str, sampling: Sampling, dialect: Dialect) -> Any:
    context = current_context()
    request = service_pb2.ModelInferRequest(
        model_name=placement.model.triton_model, id=context.request_id if context is not None else ""
    )
    request.parameters[WANT_FINAL].bool_param = True
    dialect.fill(request, prompt, sampling)
    return request
