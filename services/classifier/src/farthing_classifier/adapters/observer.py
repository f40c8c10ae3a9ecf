"""What the classifier tells about its work: a span and a histogram."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from opentelemetry import trace

from farthing_classifier.domain.analysis import Analysis
from farthing_kit.telemetry import Attr, MetricName, SpanName, Telemetry


class TelemetryObserver:
    """The Observer port on the kit's telemetry. Nothing of a prompt's text is told."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._seconds = telemetry.metrics.histogram(
            MetricName.CLASSIFY_SECONDS, "Seconds from a prompt's arrival to its judgement, waiting included."
        )

    @contextmanager
    def judging(self) -> Iterator[None]:
        """See ports.Observer."""
        begun = time.perf_counter()
        with self._telemetry.span(SpanName.ENCODE):
            yield
        self._seconds.observe(time.perf_counter() - begun)

    def judged(self, analysis: Analysis) -> None:
        """See ports.Observer."""
        span = trace.get_current_span()
        span.set_attribute(Attr.TASK, analysis.task.value)
        span.set_attribute(Attr.COMPLEXITY, analysis.complexity)
        span.set_attribute(Attr.EXPECTED_OUTPUT_TOKENS, analysis.expected_output.p50_tokens)
