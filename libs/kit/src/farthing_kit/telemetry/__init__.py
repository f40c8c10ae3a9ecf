"""What a process tells about itself: spans, metrics and log lines under names of one list."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import logs, tracing
from farthing_kit.telemetry.logs import Log
from farthing_kit.telemetry.metrics import Metrics
from farthing_kit.telemetry.names import Attr, MetricName, SpanName
from farthing_kit.telemetry.otlp import OtlpSink
from farthing_kit.telemetry.spans import LightProvider, LightSpan, Sink

__all__ = [
    "Attr", "LightSpan", "Log", "MetricName", "Metrics", "Sink", "SpanName", "Telemetry", "logs", "setup", "tracing",
    "with_otlp", "with_sink",
]  # fmt: skip


@dataclass(frozen=True)
class Telemetry:
    """The tracer, the metrics and the log of one process."""

    service: str
    tracer: Tracer = field(default_factory=tracing.silent_tracer)
    metrics: Metrics = field(default_factory=Metrics)
    sink: OtlpSink | None = None

    @property
    def log(self) -> Log:
        """The log of the service."""
        return logs.get(self.service)

    def span(
        self,
        name: str,
        *,
        kind: SpanKind = SpanKind.INTERNAL,
        parent: Context | None = None,
        links: tuple[Link, ...] = (),
        attributes: dict[str, AttributeValue] | None = None,
    ) -> AbstractContextManager[Span]:
        """A span around a block: `with telemetry.span(SpanName.ENCODE):`. Messages of exceptions are not recorded."""
        return self.tracer.start_as_current_span(
            name, context=parent, kind=kind, links=links, attributes=attributes, record_exception=False
        )

    async def run(self) -> None:
        """Send spans until cancelled, then the last ones: the lifecycle owns this task."""
        if self.sink is not None:
            await self.sink.run()

    def close(self) -> None:
        """Close the metrics endpoint if it is open."""
        self.metrics.close()


def setup(service: str, settings: ServiceSettings) -> Telemetry:
    """The telemetry of a service's process, as its settings say; sets up the log lines of the process too."""
    logs.setup(service, format=settings.log_format, level=settings.log_level)
    if not settings.otlp_endpoint:
        return Telemetry(service)
    return with_otlp(service, settings.otlp_endpoint, ratio=settings.trace_ratio)


def with_otlp(service: str, endpoint: str, *, ratio: float = 1.0) -> Telemetry:
    """Telemetry whose spans go to an OTLP/gRPC endpoint ("http://host:4317") while `run` runs."""
    sink = OtlpSink(endpoint, resource_of(service))
    return Telemetry(service, tracer=LightProvider(resource_of(service), sink, ratio), sink=sink)


def with_sink(service: str, sink: Sink, *, ratio: float = 1.0) -> Telemetry:
    """Telemetry whose spans go to `sink` at once: tests pass one that keeps them."""
    return Telemetry(service, tracer=LightProvider(resource_of(service), sink, ratio))


def resource_of(service: str) -> dict[str, str]:
    """What the spans of a service say about where they come from."""
    return {"service.name": f"farthing-{service}", "service.namespace": "farthing"}
