"""Prometheus metrics of inference: tokens, times, and what the pools hold."""

from __future__ import annotations

from functools import partial

from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.pools import Placement
from farthing_kit.telemetry import MetricName, Metrics
from farthing_kit.usage import TokenUsage

_LABELS = ("pool", "model")


class PrometheusMeter:
    """The Meter port on the kit's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self._first = metrics.histogram(
            MetricName.TIME_TO_FIRST_TOKEN, "Seconds from the call to the model to its first token.", _LABELS
        )
        self._seconds = metrics.histogram(
            MetricName.INFERENCE_SECONDS, "Seconds that a generation took on a server.", (*_LABELS, "outcome")
        )
        self._per_token = metrics.histogram(
            MetricName.TIME_PER_OUTPUT_TOKEN, "Seconds for each output token after the first.", _LABELS
        )
        self._tokens = metrics.counter(MetricName.TOKENS, "Tokens processed.", (*_LABELS, "kind"))

    def first_token(self, placement: Placement, seconds: float) -> None:
        """See ports.Meter."""
        self._first.labels(*_values(placement)).observe(seconds)

    def ended(
        self, placement: Placement, outcome: str, usage: TokenUsage, seconds: float, after_first_s: float
    ) -> None:
        """See ports.Meter."""
        values = _values(placement)
        self._seconds.labels(*values, outcome).observe(seconds)
        self._tokens.labels(*values, "input").inc(usage.input_total)
        self._tokens.labels(*values, "output").inc(usage.output_total)
        if usage.output_total > 1:
            self._per_token.labels(*values).observe(after_first_s / (usage.output_total - 1))


def watch_fleet(metrics: Metrics, fleet: Fleet) -> None:
    """Show each pool's load and servers; read when the endpoint is."""
    in_flight = metrics.gauge(MetricName.POOL_IN_FLIGHT, "Generations in progress.", ("pool",))
    servers_up = metrics.gauge(MetricName.POOL_REPLICAS_UP, "Servers that can be used.", ("pool",))
    for status in fleet.pools():
        name = status.spec.name
        in_flight.labels(name).set_function(partial(_in_flight, fleet, name))
        servers_up.labels(name).set_function(partial(_servers_up, fleet, name))


def _in_flight(fleet: Fleet, pool: str) -> float:
    return fleet.status(pool).in_flight


def _servers_up(fleet: Fleet, pool: str) -> float:
    return fleet.status(pool).servers_up


def _values(placement: Placement) -> tuple[str, str]:
    return placement.pool.name, placement.model.name
