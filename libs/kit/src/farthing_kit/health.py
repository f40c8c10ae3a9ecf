"""What a server says about itself under grpc.health.v1: per service, per dependency, and as a whole ("")."""

from __future__ import annotations

from collections.abc import Sequence

from grpc_health.v1 import health_pb2
from grpc_health.v1.health import aio as health_aio

from farthing_kit.telemetry.metrics import Metrics

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


class Health:
    """Services serve once the server started, while it is not draining and no required dependency is down."""

    def __init__(self, services: Sequence[str], metrics: Metrics) -> None:
        self.servicer = health_aio.HealthServicer()
        self._services = ("", *services)
        self._metrics = metrics
        self._down: set[str] = set()
        self._started = False

    async def start(self) -> None:
        """From now on, services serve."""
        self._started = True
        await self._publish()

    async def drain(self) -> None:
        """From now on, nothing serves, whatever is reported later."""
        self._started = False
        await self._publish()

    async def report(self, dependency: str, up: bool, *, required: bool = True) -> None:
        """Say whether a dependency answers. While a required one does not, the services are NOT_SERVING."""
        self._metrics.dependency_up.labels(dependency).set(1 if up else 0)
        await self.servicer.set(dependency, _SERVING if up else _NOT_SERVING)
        if required:
            (self._down.discard if up else self._down.add)(dependency)
            await self._publish()

    @property
    def serving(self) -> bool:
        """Whether the services serve at present."""
        return self._started and not self._down

    async def _publish(self) -> None:
        for name in self._services:
            await self.servicer.set(name, _SERVING if self.serving else _NOT_SERVING)
