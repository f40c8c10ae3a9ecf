"""The client span of a call to Triton, in OpenTelemetry's GenAI terms."""

from __future__ import annotations

from typing import Final

from opentelemetry.trace import Span, SpanKind, Status, StatusCode
from opentelemetry.util.types import AttributeValue

from farthing_inference.domain.generation import Progress, Sampling
from farthing_inference.domain.pools import Placement
from farthing_kit.clock import Clock
from farthing_kit.telemetry import Attr, SpanName, Telemetry, tracing

_OPERATION: Final = "chat"
_PROVIDER: Final = "triton"


class CallSpan:
    """One call. It is never made the current span: a generator's body runs in whatever context reads from it."""

    def __init__(self, telemetry: Telemetry, placement: Placement, sampling: Sampling, clock: Clock) -> None:
        self._clock = clock
        self._began = clock.monotonic()
        self._last: Progress | None = None
        self._span: Span = telemetry.tracer.start_span(
            f"{SpanName.CHAT} {placement.model.name}",
            kind=SpanKind.CLIENT,
            attributes=_attributes(placement, sampling),
        )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What ties Triton's own spans (queue, compute) to this one."""
        return tuple(tracing.headers(self._span.get_span_context()))

    def progress(self, progress: Progress) -> None:
        """Note the newest counts, and the time of the first token."""
        if progress.output_tokens and not (self._last and self._last.output_tokens):
            self._span.set_attribute(Attr.GENAI_TIME_TO_FIRST_CHUNK, self._clock.monotonic() - self._began)
        self._last = progress

    def failed(self, error: BaseException) -> None:
        """Note the kind of a failure, never its text."""
        self._span.set_attribute(Attr.ERROR_TYPE, type(error).__name__)
        self._span.set_status(Status(StatusCode.ERROR))

    def end(self) -> None:
        """Note what was generated, and end. Without a finish reason or a failure, the caller went away."""
        last = self._last
        if last is not None:
            self._span.set_attribute(Attr.GENAI_INPUT_TOKENS, last.input_tokens)
            self._span.set_attribute(Attr.GENAI_OUTPUT_TOKENS, last.output_tokens)
            self._span.set_attribute(Attr.GENAI_FINISH_REASONS, [last.finish.value if last.finish else "cancelled"])
        self._span.end()


def _attributes(placement: Placement, sampling: Sampling) -> dict[str, AttributeValue]:
    host, _, port = placement.server.rpartition(":")
    return {
        Attr.GENAI_OPERATION: _OPERATION,
        Attr.GENAI_PROVIDER: _PROVIDER,
        Attr.GENAI_REQUEST_MODEL: placement.model.name,
        Attr.GENAI_RESPONSE_MODEL: placement.model.weights,
        Attr.GENAI_REQUEST_MAX_TOKENS: sampling.max_output_tokens,
        Attr.GENAI_REQUEST_TEMPERATURE: sampling.temperature,
        Attr.GENAI_REQUEST_TOP_P: sampling.top_p,
        Attr.GENAI_REQUEST_STREAM: True,
        Attr.SERVER_ADDRESS: host,
        Attr.SERVER_PORT: int(port),
        Attr.POOL: placement.pool.name,
        Attr.QUANTIZATION: placement.model.quantization,
    }
