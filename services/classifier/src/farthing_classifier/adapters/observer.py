"""What the classifier tells about its work: a span, and metrics."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from opentelemetry import trace

from farthing_classifier.domain.analysis import Analysis, Flags
from farthing_classifier.domain.drift import Drift
from farthing_kit.telemetry import Attr, MetricName, SpanName, Telemetry

_BATCH_BUCKETS: Final = (1, 2, 3, 4, 6, 8, 12, 16, 32)


class TelemetryObserver:
    """The Observer port on the kit's telemetry. Nothing of a prompt's text is told."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        metrics = telemetry.metrics
        self._seconds = metrics.histogram(
            MetricName.CLASSIFY_SECONDS,
            "Seconds from a prompt's arrival to its judgement, waiting included.",
            ("stage",),
        )
        self._flags = metrics.counter(
            MetricName.CLASSIFIED_FLAGS, "Judgements with a flag, such as no_signal.", ("flag",)
        )
        self._batch = metrics.histogram(
            MetricName.ENCODE_BATCH, "Prompts that a worker took at once.", buckets=_BATCH_BUCKETS
        )
        self._drift = metrics.gauge(
            MetricName.CLASSIFIER_DRIFT, "Population stability index of the prompts of late.", ("of",)
        )
        self._drifted = metrics.gauge(MetricName.CLASSIFIER_DRIFTED, "1 while an index is over its limit.")
        self._window = metrics.gauge(MetricName.CLASSIFIER_DRIFT_PROMPTS, "Prompts in the window of the indices.")

    @contextmanager
    def judging(self) -> Iterator[Callable[[Analysis], None]]:
        """See ports.Observer."""
        begun = time.perf_counter()

        def judged(analysis: Analysis) -> None:
            self._seconds.labels(analysis.stage.value).observe(time.perf_counter() - begun)
            self._judged(analysis)

        with self._telemetry.span(SpanName.ENCODE):
            yield judged

    def drifting(self, drift: Drift) -> None:
        """See ports.Observer."""
        self._window.set(drift.prompts)
        self._drifted.set(drift.drifted)
        self._drift.labels("complexity").set(drift.complexity_index)
        self._drift.labels("familiarity").set(drift.familiarity_index)
        self._drift.labels("task").set(drift.task_index)

    def passed(self, prompts: int) -> None:
        """See ports.Observer."""
        self._batch.observe(prompts)

    def _judged(self, analysis: Analysis) -> None:
        for flag in analysis.flags:
            self._flags.labels(str(flag.name).lower()).inc()
        span = trace.get_current_span()
        span.set_attribute(Attr.TASK, analysis.task.value)
        span.set_attribute(Attr.COMPLEXITY, analysis.complexity)
        span.set_attribute(Attr.EXPECTED_OUTPUT_TOKENS, analysis.expected_output.p50_tokens)
        span.set_attribute(Attr.STAGE, analysis.stage.value)
        span.set_attribute(Attr.NO_SIGNAL, Flags.NO_SIGNAL in analysis.flags)
