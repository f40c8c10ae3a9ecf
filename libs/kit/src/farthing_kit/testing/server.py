"""The real server of a service, in process on a free port, with a real channel to it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from opentelemetry.sdk.trace import ReadableSpan

from farthing_kit import client, telemetry
from farthing_kit.clock import Clock
from farthing_kit.context import ContextSigner, Principal, RequestContext, Role, new_request_id
from farthing_kit.interceptors.client import Channel
from farthing_kit.lifecycle import Build, Process
from farthing_kit.server import Server, Service
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import LightSpan, Telemetry
from farthing_kit.testing.settings import TEST_SECRET
from farthing_kit.testing.settings import settings as test_settings

S = TypeVar("S", bound=ServiceSettings)


def tenant_context(org: str = "acme", **changes: Any) -> RequestContext:
    """A tenant's request, with a fresh id."""
    values: dict[str, Any] = {
        "request_id": new_request_id(),
        "principal": Principal(org=org, team="search", user="u1", key_id="k_test"),
        "role": Role.TENANT,
    }
    return RequestContext(**{**values, **changes})


def operator_context(**changes: Any) -> RequestContext:
    """An operator's request, with a fresh id."""
    return tenant_context(principal=Principal(org="farthing", user="operator"), role=Role.OPERATOR, **changes)


@dataclass
class Spans:
    """The finished spans of one process, in memory."""

    finished: list[ReadableSpan] = field(default_factory=list)

    def put(self, span: LightSpan) -> None:
        """Keep a span as it would leave the process."""
        self.finished.append(span.readable())

    def all(self) -> tuple[ReadableSpan, ...]:
        """Every finished span, in the order they ended."""
        return tuple(self.finished)

    def named(self, name: str) -> list[ReadableSpan]:
        """The finished spans of one name."""
        return [span for span in self.all() if span.name == name]

    def telemetry(self, service: str) -> Telemetry:
        """Telemetry whose spans land here as soon as they end."""
        return telemetry.with_sink(service, self)


@dataclass
class RunningServer:
    """A kit server under test."""

    server: Server
    telemetry: Telemetry
    signer: ContextSigner

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.server.port}"

    def channel(self, context: RequestContext | None = None, **options: Any) -> Channel:
        """A kit channel that calls as `context` where no other is current (default: a tenant). The caller closes it."""
        options.setdefault("signer", self.signer)
        options.setdefault("telemetry", self.telemetry)
        return client.channel(self.target, identity=context or tenant_context(), **options)


@asynccontextmanager
async def serving(
    *services: Service,
    settings: ServiceSettings | None = None,
    telemetry: Telemetry | None = None,
    verifier: ContextSigner | None = None,
) -> AsyncIterator[RunningServer]:
    """Serve `services` with the kit's real server while the block runs."""
    made = telemetry or Telemetry("test")
    signer = verifier or ContextSigner(TEST_SECRET)
    server = Server(services, settings=settings or test_settings(ServiceSettings), telemetry=made, verifier=signer)
    await server.start()
    try:
        yield RunningServer(server, made, signer)
    finally:
        await server.stop()


@dataclass
class RunningProcess(Generic[S]):
    """A whole service under test: its composition root ran, its server listens."""

    process: Process[S]
    spans: Spans

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.process.port}"

    def channel(self, context: RequestContext | None = None, **options: Any) -> Channel:
        """A kit channel to it that calls as `context` (default: a tenant). The caller closes it."""
        options.setdefault("signer", self.process.signer)
        return client.channel(self.target, identity=context or tenant_context(), **options)


@asynccontextmanager
async def running(
    service: str, settings: S, build: Build[S], *, clock: Clock | None = None
) -> AsyncIterator[RunningProcess[S]]:
    """Run a service's composition root in this process while the block runs: the same `build` that main.py passes."""
    spans = Spans()
    process = Process(service, settings, made=spans.telemetry(service), clock=clock)
    try:
        await process.open(build)
        yield RunningProcess(process, spans)
    finally:
        await process.close()


async def close_all(channels: Sequence[Channel]) -> None:
    """Close several channels."""
    for channel in channels:
        await channel.close()
