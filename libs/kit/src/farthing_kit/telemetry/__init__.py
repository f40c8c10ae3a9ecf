"""What a process tells about itself: spans, metrics and log lines under names of one list."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from opentelemetry.context import Context
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter
from opentelemetry.trace import Link, Span, SpanKind, Tracer
from opentelemetry.util.types import AttributeValue

from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import logs, tracing
from farthing_kit.telemetry.logs import Log
from farthing_kit.telemetry.metrics import Metrics
from farthing_kit.telemetry.names import Attr, MetricName, SpanName

__all__ = ["Attr", "Log", "MetricName", "Metrics", "SpanName", "Telemetry", "logs", "setup", "tracing"]


@dataclass(frozen=True)
class Telemetry:
    """The tracer, the metrics and the log of one process."""

    service: str
    tracer: Tracer = field(default_factory=tracing.silent_tracer)
    metrics: Metrics = field(default_factory=Metrics)
    provider: TracerProvider | None = None

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

    def close(self) -> None:
        """Send what is left and stop. Blocks for a few seconds at most: call it in a thread."""
        if self.provider is not None:
            self.provider.shutdown()
        self.metrics.close()


def setup(service: str, settings: ServiceSettings) -> Telemetry:
    """The telemetry of a service's process, as its settings say; sets up the log lines of the process too."""
    logs.setup(service, format=settings.log_format, level=settings.log_level)
    if not settings.otlp_endpoint:
        return Telemetry(service)
    return with_exporter(service, tracing.otlp_exporter(settings.otlp_endpoint), ratio=settings.trace_ratio)


def with_exporter(service: str, exporter: SpanExporter, *, ratio: float = 1.0, batch: bool = True) -> Telemetry:
    """Telemetry whose spans go to `exporter`: tests pass one that keeps them in memory."""
    made = tracing.provider(service, exporter, ratio=ratio, batch=batch)
    return Telemetry(service, tracer=made.get_tracer("farthing"), provider=made)
