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

from farthing_cli import heads
from farthing_cli.console import complain
from farthing_cli.state import StateFolder, write_private
from farthing_cli.up.options import LOOPBACK, SERVERS, SERVICES, UpOptions, choose_port
from farthing_cli.up.supervisor import Child, Part, Start
from farthing_kit.local import redis
from farthing_kit.local.collector import Collector
from farthing_kit.local.nats import Nats
from farthing_kit.local.postgres import Postgres
from farthing_kit.local.process import ChildProcess, Probe, Spec
from farthing_kit.local.redis import Redis
from farthing_kit.local.triton import Triton
from farthing_kit.local.wheels import config_dir

READY_TIMEOUT_S = 60.0
HEALTH_TIMEOUT_S = 1.0
POLL_S = 0.1

# What must be ready before a part starts. Services find one another whenever they come up; these are the stores and
# brokers that they refuse to start without, and the models that inference reads at its start.
NEEDS: Mapping[str, tuple[str, ...]] = {
    "accounting": ("redis", "nats", "postgres"),
    "cache": ("redis-cache", "nats"),
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


class LocalMesh:
    """Every process of one mesh on this machine, not yet started: ports are chosen, settings are made."""

    def __init__(self, options: UpOptions, folder: StateFolder) -> None:
        self._folder = folder
        self._pools_file = options.pools_file or config_dir() / "pools.toml"
        self._ports = {part: choose_port(part, options.ports) for part in SERVERS + SERVICES}
        self._collector = self._make_collector(options)
        self._postgres = Postgres(
            folder.path / "postgres", log=folder.log_file("postgres"), port=self._ports["postgres"]
        )
        self._nats = Nats(folder.path / "nats", log=folder.log_file("nats"), port=self._ports["nats"])
        self._redis = self._make_redis("redis", redis.ACCOUNTING)
        self._cache_redis = self._make_redis("redis-cache", redis.CACHE)
        self._triton = self._make_triton(options)

    def parts(self) -> list[Part]:
        """The servers, then the services."""
        servers: dict[str, Server] = {
            "redis": self._redis,
            "redis-cache": self._cache_redis,
            "nats": self._nats,
            "postgres": self._postgres,
            "collector": self._collector,
            "triton": self._triton,
        }
        return [
            *(Part(name, self.address(name), (), self._start_server(server)) for name, server in servers.items()),
            *(Part(name, self.address(name), NEEDS[name], self.start_service(name)) for name in SERVICES),
        ]

    def address(self, part: str) -> str:
        """Where a part listens."""
        return f"{LOOPBACK}:{self._ports[part]}"

    @property
    def postgres_dsn(self) -> str:
        """Where the books lie, password included; once PostgreSQL has been started."""
        return self._postgres.dsn()

    def start_service(self, name: str, *, replica: str = "", settings: Mapping[str, str] | None = None) -> Start:
        """How to start a service. A second one of a kind is a `replica` with settings of its own, its address among
        them."""
        own = {**self._settings(name, replica or name), **(settings or {})}
        address = own[f"FARTHING_{name.upper()}_BIND"]
        log = self._folder.log_file(replica or name)
        process = ChildProcess(Spec(name, [sys.executable, "-m", f"farthing_{name}"], log, env={**os.environ, **own}))

        async def start() -> Child:
            await process.start(serving(address), READY_TIMEOUT_S)
            return RunningChild(process)

        return start

    def _start_server(self, server: Server) -> Start:
        async def start() -> Child:
            await server.start()
            if server is self._postgres:  # its password is made at its first start
                write_private(self._dsn_file, self._postgres.dsn())
            return RunningChild(server.process)

        return start

    @property
    def _dsn_file(self) -> Path:
        return self._folder.path / "secrets" / "postgres-dsn"

    def _settings(self, name: str, replica: str) -> dict[str, str]:
        """The settings of a service; a variable without a service's name is read by all that have the setting."""
        targets = {f"FARTHING_{other.upper()}_TARGET": self.address(other) for other in SERVICES if other != "gateway"}
        return {
            **targets,
            f"FARTHING_{name.upper()}_BIND": self.address(name),
            "FARTHING_MESH_SECRET_FILE": str(self._folder.secret("mesh")),
            "FARTHING_KEY_PEPPER_FILE": str(self._folder.secret("key-pepper")),
            "FARTHING_POSTGRES_DSN_FILE": str(self._dsn_file),
            "FARTHING_ACCOUNTING_REDIS_URL": self._redis.url,
            "FARTHING_CACHE_REDIS_URL": self._cache_redis.url,
            "FARTHING_NATS_URL": self._nats.url,
            "FARTHING_NATS_MONITOR_URL": self._nats.monitor_url,
            "FARTHING_OTLP_ENDPOINT": self._collector.endpoint,
            "FARTHING_OUTBOX_DIR": str(self._folder.path / "outbox" / replica),
            "FARTHING_PRICES_FILE": str(config_dir() / "accounting" / "prices.toml"),
            "FARTHING_POOLS_FILE": str(self._pools_file),
            "FARTHING_TRITON_LOCAL": self._triton.address,
            "FARTHING_ENCODER_DIR": str(config_dir().parents[1] / "build" / "models" / "encoder"),
            **(self._calibration() if name == "classifier" else {}),
        }

    def _calibration(self) -> dict[str, str]:
        """The calibration that traffic has taught, if there is one; not that of earlier heads, which the classifier
        would refuse."""
        file = self._folder.calibration_file
        if not file.exists():
            return {}
        if (mine := heads.owner(file)) != (loaded := heads.version()):
            complain(f"{file} belongs to the heads {mine}, not to {loaded}: it is not used")
            return {}
        return {"FARTHING_CLASSIFIER_CALIBRATION_FILE": str(file)}

    def _make_redis(self, part: str, config: str) -> Redis:
        return Redis(self._folder.path / part, log=self._folder.log_file(part), port=self._ports[part], config=config)

    def _make_collector(self, options: UpOptions) -> Collector:
        folder, log = self._folder.traces_file.parent, self._folder.log_file("collector")
        return Collector(folder, log=log, grpc_port=self._ports["collector"], forward=options.otlp)

    def _make_triton(self, options: UpOptions) -> Triton:
        log, port = self._folder.log_file("triton"), self._ports["triton"]
        return Triton(options.models, log=log, grpc_port=port, otlp_http=self._collector.http_address)


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
