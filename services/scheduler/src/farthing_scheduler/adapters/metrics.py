"""What the worker does, as Prometheus numbers."""

from __future__ import annotations

from farthing_kit.telemetry import MetricName, Metrics
from farthing_scheduler.domain.job import Job


class JobMetrics:
    """Counts jobs by model and outcome."""

    def __init__(self, metrics: Metrics) -> None:
        self._wait = metrics.histogram(MetricName.QUEUE_WAIT_SECONDS, "Seconds that jobs waited.", ("model",))
        self._jobs = metrics.counter(MetricName.JOBS, "Jobs that ended, by how.", ("model", "outcome"))
        self._running = metrics.gauge(MetricName.JOBS_RUNNING, "Jobs that run in this worker.", ("model",))

    def taken(self, job: Job, waited_s: float) -> None:
        self._wait.labels(job.model).observe(waited_s)
        self._running.labels(job.model).inc()

    def ended(self, job: Job, outcome: str) -> None:
        self._running.labels(job.model).dec()
        self._jobs.labels(job.model, outcome).inc()

    def refused(self, job: Job, outcome: str) -> None:
        self._jobs.labels(job.model, outcome).inc()
