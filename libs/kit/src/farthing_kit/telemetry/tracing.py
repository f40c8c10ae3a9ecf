"""How a trace crosses from one process to the next: the W3C traceparent, in metadata and in headers."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer

TRACEPARENT: Final = "traceparent"
_LENGTH: Final = 55  # 00-<32 hex>-<16 hex>-<2 hex>


def silent_tracer() -> Tracer:
    """A tracer that records nothing and still passes on the trace it was called in."""
    return trace.NoOpTracer()


def encode(context: SpanContext) -> str:
    """The W3C traceparent of a span."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def decode(header: str | None) -> Context | None:
    """The context that a traceparent names; None where there is none, or it is not one."""
    if header is None or len(header) != _LENGTH or header[2] != "-" or header[35] != "-" or header[52] != "-":
        return None
    try:
        span = SpanContext(
            int(header[3:35], 16), int(header[36:52], 16), is_remote=True, trace_flags=TraceFlags(int(header[53:], 16))
        )
    except ValueError:
        return None
    return trace.set_span_in_context(NonRecordingSpan(span), Context()) if span.is_valid else None


def inject(headers: MutableMapping[str, str]) -> None:
    """Write the current trace into the headers of a message (NATS)."""
    context = trace.get_current_span().get_span_context()
    if context.is_valid:
        headers[TRACEPARENT] = encode(context)


def extract(headers: Mapping[str, str] | None) -> Context | None:
    """The trace that a message's headers name."""
    return decode(headers.get(TRACEPARENT)) if headers else None
