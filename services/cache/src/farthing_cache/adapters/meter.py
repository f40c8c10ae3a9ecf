"""Counts for Prometheus."""

from __future__ import annotations

from farthing_kit.telemetry import MetricName, Metrics


class PrometheusMeter:
    """The Meter port."""

    def __init__(self, metrics: Metrics) -> None:
        lookups = metrics.counter(MetricName.CACHE_LOOKUPS, "Look-ups in the cache.", ("result",))
        stores = metrics.counter(MetricName.CACHE_STORES, "Answers offered to the cache.", ("result",))
        self._lookups = {True: lookups.labels("hit"), False: lookups.labels("miss")}
        self._stores = {True: stores.labels("kept"), False: stores.labels("not_kept")}
        self._errors = lookups.labels("error")
        self._compared = metrics.counter(MetricName.CACHE_COMPARED, "Look-ups by meaning.", ("result",))
        self._claims = metrics.counter(MetricName.CACHE_CLAIMS, "Answers that are made once for all.", ("result",))

    def looked_up(self, *, hit: bool) -> None:
        self._lookups[hit].inc()

    def compared(self, outcome: str) -> None:
        self._compared.labels(outcome).inc()

    def claimed(self, outcome: str) -> None:
        self._claims.labels(outcome).inc()

    def stored(self, *, kept: bool) -> None:
        self._stores[kept].inc()

    def failed(self) -> None:
        self._errors.inc()
