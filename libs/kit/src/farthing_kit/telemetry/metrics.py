"""Prometheus metrics of one process, and the endpoint that shows them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, start_http_server

from farthing_kit.telemetry.names import METRICS, MetricName

SECONDS_BUCKETS: Final = (
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 60.0,
)  # fmt: skip

M = TypeVar("M", Counter, Gauge, Histogram)


class Metrics:
    """A registry of its own, so that several servers can live in one test process. Names are of names.MetricName."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._made: dict[str, Any] = {}
        self._endpoint: tuple[WSGIServer, threading.Thread] | None = None
        self.rpc_seconds = self.histogram(
            MetricName.RPC_SECONDS, "Seconds that a call took on the server.", ("service", "method", "code")
        )
        self.rpc_in_flight = self.gauge(MetricName.RPC_IN_FLIGHT, "Calls in progress.", ("service",))
        self.rpc_shed = self.counter(MetricName.RPC_SHED, "Calls refused for load.", ("service", "priority"))
        self.client_seconds = self.histogram(
            MetricName.CLIENT_SECONDS, "Seconds that a call to another service took.", ("service", "method", "code")
        )
        self.dependency_up = self.gauge(MetricName.DEPENDENCY_UP, "1 while a dependency answers.", ("dependency",))

    def counter(self, name: str, doc: str, labels: Sequence[str] = ()) -> Counter:
        """A number that only grows."""
        return self._once(name, lambda: Counter(_known(name), doc, labels, registry=self.registry))

    def gauge(self, name: str, doc: str, labels: Sequence[str] = ()) -> Gauge:
        """A number that goes up and down."""
        return self._once(name, lambda: Gauge(_known(name), doc, labels, registry=self.registry))

    def histogram(
        self, name: str, doc: str, labels: Sequence[str] = (), buckets: Sequence[float] = SECONDS_BUCKETS
    ) -> Histogram:
        """A distribution; the default buckets are for seconds."""
        return self._once(name, lambda: Histogram(_known(name), doc, labels, registry=self.registry, buckets=buckets))

    def _once(self, name: str, make: Callable[[], M]) -> M:
        """A metric that two parts of a process ask for is the same one."""
        if name not in self._made:
            self._made[name] = make()
        made: M = self._made[name]
        return made

    def value(self, name: str, **labels: str) -> float:
        """The present value of a sample, 0 if there is none: for tests and status pages."""
        return self.registry.get_sample_value(name, labels) or 0.0

    def serve(self, bind: str) -> int:
        """Open the endpoint; returns its port. Raises OSError when the address is taken."""
        host, _, port = bind.rpartition(":")
        self._endpoint = start_http_server(int(port), host or "127.0.0.1", self.registry)
        return int(self._endpoint[0].server_port)

    def close(self) -> None:
        """Close the endpoint if it is open."""
        if self._endpoint is not None:
            server, thread = self._endpoint
            self._endpoint = None
            server.shutdown()
            server.server_close()
            thread.join(timeout=5)


def _known(name: str) -> str:
    if name not in METRICS:
        raise ValueError(f"{name} is not in farthing_kit.telemetry.names.MetricName; add it there")
    return name
