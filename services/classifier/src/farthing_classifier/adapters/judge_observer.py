"""What the judge tells about its work: how long it takes, and what it finds."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from farthing_classifier.domain.judging.examination import Finding
from farthing_kit.telemetry import MetricName, Telemetry


class TelemetryJudgeObserver:
    """The JudgeObserver port on the kit's telemetry. Nothing of a text is told."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._seconds = telemetry.metrics.histogram(
            MetricName.JUDGE_SECONDS, "Seconds from an answer's arrival to its verdict, waiting included."
        )
        self._findings = telemetry.metrics.counter(
            MetricName.JUDGE_FINDINGS, "Findings in answers, such as wrong_arithmetic.", ("finding",)
        )

    @contextmanager
    def examining(self) -> Iterator[None]:
        """See ports.JudgeObserver."""
        begun = time.perf_counter()
        yield
        self._seconds.observe(time.perf_counter() - begun)

    def examined(self, findings: Sequence[Finding]) -> None:
        """See ports.JudgeObserver."""
        for finding in findings:
            self._findings.labels(finding.value).inc()
