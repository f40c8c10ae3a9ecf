"""The processes of a mesh on this machine: which there are, what each needs, and with which settings it starts."""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
from grpc_health.v1 import health_pb2

from farthing_cli.state import StateFolder
from farthing_cli.up.options import LOOPBACK, SERVERS, SERVICES, UpOptions, choose_port
from farthing_cli.up.supervisor import Child, Part, Start
from farthing_kit.local.collector import Collector
from farthing_kit.local.nats import Nats
from farthing_kit.local.postgres import Postgres
from farthing_kit.local.process import ChildProcess, Probe, Spec
from farthing_kit.local.redis import Redis
from farthing_kit.local.triton import Triton

READY_TIMEOUT_S = 60.0
HEALTH_TIMEOUT_S = 1.0
POLL_S = 0.1

# What must be ready before a part starts. Services find one another whenever they come up; these are the stores and
# brokers that they refuse to start without, and the models that inference reads at its start.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "accounting": ("redis", "nats", "postgres"),
    "cache": ("redis", "nats"),
    "classifier": (),
    "inference": ("triton",),
    "scheduler": ("nats", "inference"),
    "gateway": ("nats", "accounting", "cache", "classifier", "scheduler"),
}


class Server(Protocol):
    """One of the kit's local servers."""

    process: ChildProcess

    async def start(self) -> Any:
        """Start it and wait until it is ready."""


@dataclass(frozen=True)
class RunningChild:
    """A child process as the supervisor sees it."""

    process: ChildProcess

    @property
    def pid(self) -> int:
        """Its number."""
        return self.process.pid

    async def wait(self) -> int:
        """Wait until it ends; its exit code."""
        while self.process.running:  # noqa: ASYNC110 - the end of a child of Popen is no event of the loop
            await asyncio.sleep(POLL_S)
        return self.process.exit_code or 0

    async def stop(self) -> None:
        """End it."""
        await self.process.stop()


def parts(options: UpOptions, folder: StateFolder) -> list[Part]:
    """Every process of the mesh."""
    ports = {part: choose_port(part, options.ports) for part in SERVERS + SERVICES}
    servers = _servers(options, folder, ports)
    env = {**os.environ, **common_settings(options, folder, servers, ports)}
    return [
        *(Part(name, f"{LOOPBACK}:{ports[name]}", (), _start_server(server)) for name, server in servers.items()),
        *(
            Part(name, f"{LOOPBACK}:{ports[name]}", NEEDS[name], _start_service(name, ports[name], env, folder))
            for name in SERVICES
        ),
    ]


def _servers(options: UpOptions, folder: StateFolder, ports: Mapping[str, int]) -> dict[str, Server]:
    def log(name: str) -> Path:
        return folder.log_file(name)

    collector = Collector(
        folder.traces_file.parent, log=log("collector"), grpc_port=ports["collector"], forward=options.otlp
    )
    return {
        "redis": Redis(folder.path / "redis", log=log("redis"), port=ports["redis"]),
        "nats": Nats(folder.path / "nats", log=log("nats"), port=ports["nats"]),
        "postgres": Postgres(folder.path / "postgres", log=log("postgres"), port=ports["postgres"]),
        "collector": collector,
        "triton": Triton(
            options.models, log=log("triton"), grpc_port=ports["triton"], otlp_http=collector.http_address
        ),
    }


def _start_server(server: Server) -> Start:
    async def start() -> Child:
        await server.start()
        return RunningChild(server.process)

    return start


def _start_service(name: str, port: int, env: Mapping[str, str], folder: StateFolder) -> Start:
    address = f"{LOOPBACK}:{port}"
    own = {**env, f"FARTHING_{name.upper()}_BIND": address}
    process = ChildProcess(Spec(name, [sys.executable, "-m", f"farthing_{name}"], folder.log_file(name), env=own))

    async def start() -> Child:
        await process.start(serving(address), READY_TIMEOUT_S)
        return RunningChild(process)

    return start


def serving(address: str) -> Probe:
    """A probe: the gRPC server there says SERVING."""

    async def probe() -> bool:
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            check: Any = channel.unary_unary(
                "/grpc.health.v1.Health/Check",
                request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
                response_deserializer=health_pb2.HealthCheckResponse.FromString,
            )
            try:
                answer = await check(health_pb2.HealthCheckRequest(), timeout=HEALTH_TIMEOUT_S)
            except grpc.aio.AioRpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    return probe
