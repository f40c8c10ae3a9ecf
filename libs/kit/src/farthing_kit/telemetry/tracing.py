"""Spans: where they go, what they may say, and how a trace crosses a process."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer
from opentelemetry.util.types import Attributes

from farthing_kit.telemetry.names import ATTRIBUTES

TRACEPARENT: Final = "traceparent"
_LENGTH: Final = 55  # 00-<32 hex>-<16 hex>-<2 hex>
_MAX_QUEUE: Final = 4096
_MAX_BATCH: Final = 512
_EXPORT_DELAY_MS: Final = 500
_EXPORT_TIMEOUT_S: Final = 5


class AllowListExporter(SpanExporter):
    """Drops every span attribute that names.py does not list, and all events, before the spans leave the process."""

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        return self._inner.export([allowed(span) for span in spans])

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def allowed(span: ReadableSpan) -> ReadableSpan:
    """The span without what may not leave the process."""
    attributes = span.attributes or {}
    described = span.status.description is not None
    if not span.events and not described and all(key in ATTRIBUTES for key in attributes):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes={key: value for key, value in attributes.items() if key in ATTRIBUTES},
        links=[trace.Link(link.context, _only_allowed(link.attributes)) for link in span.links],
        kind=span.kind,
        status=trace.Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


def _only_allowed(attributes: Attributes) -> Attributes:
    return {key: value for key, value in (attributes or {}).items() if key in ATTRIBUTES}


def provider(service: str, exporter: SpanExporter, *, ratio: float = 1.0, batch: bool = True) -> TracerProvider:
    """A tracer provider that sends allowed spans to `exporter`: in batches, or at once for tests."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor

    made = TracerProvider(
        sampler=ParentBased(TraceIdRatioBased(ratio)),
        resource=Resource({"service.name": f"farthing-{service}", "service.namespace": "farthing"}),
        shutdown_on_exit=False,
    )
    guarded = AllowListExporter(exporter)
    made.add_span_processor(_batched(guarded) if batch else SimpleSpanProcessor(guarded))
    return made


def _batched(exporter: SpanExporter) -> BatchSpanProcessor:
    return BatchSpanProcessor(
        exporter,
        max_queue_size=_MAX_QUEUE,
        max_export_batch_size=_MAX_BATCH,
        schedule_delay_millis=_EXPORT_DELAY_MS,
    )


def otlp_exporter(endpoint: str) -> SpanExporter:
    """The exporter for an OTLP/gRPC endpoint ("http://host:4317", "https://…" or "host:4317")."""
    from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

    plain = not endpoint.startswith("https://")
    return OTLPSpanExporter(endpoint=endpoint, insecure=plain, timeout=_EXPORT_TIMEOUT_S)


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
