"""The builder of every gRPC server in the mesh."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from farthing_kit.context import ContextSigner, Role
from farthing_kit.credentials import Tls
from farthing_kit.health import Health
from farthing_kit.interceptors.incoming import Incoming
from farthing_kit.interceptors.method import Admit, Method
from farthing_kit.interceptors.server import Pipeline
from farthing_kit.interceptors.shed import Shedder
from farthing_kit.interceptors.standard import MAX_STREAMS, Standard
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import Telemetry, logs

_log = logs.get("kit.server")

# Who may call. ANYONE means: without a signed context too, for a public door that authenticates its callers itself.
ANYONE: Final = None
ANY_ROLE: Final = frozenset(Role)
MESH_ONLY: Final = frozenset({Role.SERVICE, Role.OPERATOR})
Roles = frozenset[Role] | None

# After the grace period handlers are cancelled; this is how long their `finally` blocks may still take.
CANCEL_WAIT_S: Final = 5.0
# The kit counts callers, and apart from them the standard services, by itself. gRPC's own bound counts all alike: it is
# the wall behind them, with room for calls that are being refused, and nothing that lasts may ever fill it.
WALL_FACTOR: Final = 2
WALL_ROOM: Final = 64 + 2 * MAX_STREAMS
# Messages up to so many times the limit are received, to be refused in words that say the limit; gRPC refuses the rest.
RECEIVE_FACTOR: Final = 2
# What the gRPC project calls its reflection today. Its Python package has only the version before, whose messages are
# the same bytes: who asks under either name is answered.
REFLECTION_V1: Final = "grpc.reflection.v1.ServerReflection"


class ServerError(Exception):
    """The server cannot be built or started as declared; the text says what differs."""


@dataclass(frozen=True)
class Service:
    """One gRPC service of a server.

    name: its full name, checked against what `register` (add_…Servicer_to_server) registers.
    roles: which roles may call; `methods` sets others for single methods.
    admit: of methods that are open to anyone, refuses a call by its metadata before its message is read.
    long_lived: methods that may stay open without a deadline (watches), not counted as load.
    """

    name: str
    register: Callable[[Any, Any], None]
    servicer: object
    roles: Roles = ANY_ROLE
    methods: Mapping[str, Roles] = field(default_factory=dict)
    long_lived: frozenset[str] = frozenset()
    admit: Admit | None = None

    def method(self, name: str) -> Method:
        """The method of that name under this service's policy."""
        roles = self.methods.get(name, self.roles)
        return Method(self.name, name, roles, name in self.long_lived, self.admit if roles is ANYONE else None)


class _Registrar:
    """Stands in for a server while the generated code registers, and keeps what it got."""

    def __init__(self) -> None:
        self.handlers: dict[str, Mapping[str, grpc.RpcMethodHandler[Any, Any]]] = {}

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Ignored: generated code says the same again in `add_registered_method_handlers`."""

    def add_registered_method_handlers(
        self, service_name: str, method_handlers: Mapping[str, grpc.RpcMethodHandler[Any, Any]]
    ) -> None:
        self.handlers[service_name] = method_handlers


class Server:
    """A gRPC server with health, reflection, limits, and the kit's pipeline around every method."""

    def __init__(
        self,
        services: Sequence[Service],
        *,
        settings: ServiceSettings,
        telemetry: Telemetry,
        verifier: ContextSigner | None = None,
    ) -> None:
        self._settings = settings
        self._tls = Tls.of(settings)
        self.health = Health([service.name for service in services], telemetry.metrics)
        self.pipeline = Pipeline(
            telemetry,
            verifier=verifier,
            shedder=Shedder(settings.max_concurrent),
            incoming=Incoming(max_bytes=settings.max_message_bytes, max_fields=settings.max_message_fields),
            min_deadline_s=settings.min_deadline_ms / 1000,
            default_deadline_s=settings.default_deadline_ms / 1000,
        )
        self.standard = Standard()
        self._server = grpc.aio.server(
            options=_options(settings), maximum_concurrent_rpcs=settings.max_concurrent * WALL_FACTOR + WALL_ROOM
        )
        self.port = 0
        for service in services:
            self._add(service)
        self._add_standard([service.name for service in services])

    async def start(self) -> int:
        """Listen; returns the port. ServerError when the address cannot be had."""
        bind = self._settings.bind
        try:
            if self._tls is not None and self._tls.cert is not None:
                self.port = self._server.add_secure_port(bind, self._tls.server())
            else:
                self.port = self._server.add_insecure_port(bind)
        except RuntimeError:
            raise ServerError(f"cannot listen on {bind}: the address is taken, or is not this machine's") from None
        await self._server.start()
        await self.health.start()
        return self.port

    async def stop(self) -> bool:
        """Drain: say NOT_SERVING, stay reachable for drain_wait_ms, end watches, refuse new calls, wait for those in
        progress up to grace_ms, cancel the rest. False if a handler was still running at the end."""
        await self.health.drain()
        await asyncio.sleep(self._settings.drain_wait_ms / 1000)
        self.pipeline.end_long_lived()
        self.standard.end()
        grace_s = self._settings.grace_ms / 1000
        await self._server.stop(grace_s)
        finished = await self.pipeline.wait_idle(CANCEL_WAIT_S)
        if not finished:
            _log.warning("handlers still run after the grace period", count=self.pipeline.running)
        return finished

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.stop()

    def _add(self, service: Service) -> None:
        registrar = _Registrar()
        service.register(service.servicer, registrar)
        _check(service, registrar)
        for name, handlers in registrar.handlers.items():
            self._serve(name, {method: self.pipeline.wrap(service.method(method), h) for method, h in handlers.items()})

    def _add_standard(self, names: Sequence[str]) -> None:
        registrar: Any = _Registrar()
        register_reflection: Any = reflection_pb2_grpc.add_ServerReflectionServicer_to_server
        health_pb2_grpc.add_HealthServicer_to_server(self.health.servicer, registrar)
        health_name = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
        listed = (*names, health_name, reflection.SERVICE_NAME)
        register_reflection(reflection.aio.ReflectionServicer(listed), registrar)
        registrar.handlers[REFLECTION_V1] = registrar.handlers[reflection.SERVICE_NAME]
        for name, handlers in registrar.handlers.items():
            self._serve(name, {m: self.standard.wrap(Method(name, m, ANYONE), h) for m, h in handlers.items()})

    def _serve(self, name: str, handlers: dict[str, grpc.RpcMethodHandler[Any, Any]]) -> None:
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))


def _check(service: Service, registrar: _Registrar) -> None:
    if set(registrar.handlers) != {service.name}:
        registered = ", ".join(sorted(registrar.handlers)) or "nothing"
        raise ServerError(f"declared {service.name}, but {registered} was registered")
    methods = set(registrar.handlers[service.name])
    for name in (*service.methods, *service.long_lived):
        if name not in methods:
            raise ServerError(f"{service.name} has no method {name}, which its policy names")
    for name, handler in registrar.handlers[service.name].items():
        if handler.request_streaming:
            raise ServerError(f"{service.name}/{name} takes a stream of requests, which the kit does not support")


def _options(settings: ServiceSettings) -> list[tuple[str, Any]]:
    options: list[tuple[str, Any]] = [
        # Two servers must not share a port unseen: a taken one is an error.
        ("grpc.so_reuseport", 0),
        ("grpc.max_receive_message_length", settings.max_message_bytes * RECEIVE_FACTOR),
        ("grpc.max_send_message_length", settings.max_message_bytes),
        ("grpc.max_metadata_size", settings.max_metadata_bytes),
        ("grpc.absolute_max_metadata_size", settings.max_metadata_bytes),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ]
    if settings.max_connection_age_ms:
        options.append(("grpc.max_connection_age_ms", settings.max_connection_age_ms))
        options.append(("grpc.max_connection_age_grace_ms", settings.grace_ms))
    return options
