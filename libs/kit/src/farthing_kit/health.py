"""What a server says about itself under grpc.health.v1: per service, per dependency, and as a whole ("")."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from farthing_kit.telemetry.metrics import Metrics

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class HealthServicer(health_pb2_grpc.HealthServicer):
    """The standard service over a table of statuses. gRPC's own holds a lock while it writes to a watcher, so that one
    who does not read stops every change, and forgets all watchers of a service when one of them leaves."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._changed = asyncio.Event()

    def set(self, name: str, *, serving: bool) -> None:
        """Say how a service is, and wake those who watch."""
        self._statuses[name] = _SERVING if serving else _NOT_SERVING
        self._changed.set()
        self._changed = asyncio.Event()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Any) -> health_pb2.HealthCheckResponse:
        status = self._statuses.get(request.service)
        if status is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "this server has no service of this name")
            raise AssertionError("abort returned")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: Any
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        last = None
        while True:
            changed = self._changed
            status = self._statuses.get(request.service, _UNKNOWN)
            if status != last:
                yield health_pb2.HealthCheckResponse(status=status)
            last = status
            await changed.wait()


class Health:
    """Services serve once the server started, while it is not draining and no required dependency is down."""

    def __init__(self, services: Sequence[str], metrics: Metrics) -> None:
        self.servicer = HealthServicer()
        self._services = ("", *services)
        self._metrics = metrics
        self._down: set[str] = set()
        self._started = False

    async def start(self) -> None:
        """From now on, services serve."""
        self._started = True
        self._publish()

    async def drain(self) -> None:
        """From now on, nothing serves, whatever is reported later."""
        self._started = False
        self._publish()

    async def report(self, dependency: str, up: bool, *, required: bool = True) -> None:
        """Say whether a dependency answers. While a required one does not, the services are NOT_SERVING."""
        self._metrics.dependency_up.labels(dependency).set(1 if up else 0)
        self.servicer.set(dependency, serving=up)
        if required:
            (self._down.discard if up else self._down.add)(dependency)
            self._publish()

    @property
    def serving(self) -> bool:
        """Whether the services serve at present."""
        return self._started and not self._down

    def _publish(self) -> None:
        for name in self._services:
            self.servicer.set(name, serving=self.serving)
