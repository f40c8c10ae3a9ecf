"""Accounting's numbers as Prometheus metrics."""

from __future__ import annotations

from farthing_kit.telemetry import MetricName, Metrics


class MetricsObserver:
    """Labels are words of ours, never a tenant's."""

    def __init__(self, metrics: Metrics) -> None:
        self._reservations = metrics.counter(
            MetricName.RESERVATIONS, "Reservations and extensions answered, by outcome.", ("outcome",)
        )
        self._reserve_seconds = metrics.histogram(
            MetricName.RESERVE_SECONDS, "Seconds until a reservation was answered."
        )
        self._expired = metrics.counter(MetricName.RESERVATIONS_EXPIRED, "Reservations that nobody settled in time.")
        self._events = metrics.counter(MetricName.USAGE_EVENTS, "Usage events, by what became of them.", ("result",))
        self._ledger_seconds = metrics.histogram(MetricName.LEDGER_SECONDS, "Seconds that booking a batch took.")

    def reserved(self, outcome: str, seconds: float) -> None:
        """A reservation was answered."""
        self._reservations.labels(outcome).inc()
        self._reserve_seconds.observe(seconds)

    def expired(self, count: int) -> None:
        """Reservations ended by themselves."""
        self._expired.inc(count)

    def folded(self, result: str, count: int) -> None:
        """booked, repeated, voided; mended (one of these, of which a label was); buried, unburied (not even that: comes
        again), dropped (never again); settled_late, released_late."""
        self._events.labels(result).inc(count)

    def booked(self, seconds: float) -> None:
        """A batch was committed."""
        self._ledger_seconds.observe(seconds)
