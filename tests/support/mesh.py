"""A whole mesh for tests and benches: the processes of `farthing up`, with a hand on each of them."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

import grpc

from farthing.accounting.v1 import ledger_service_pb2 as ledger_pb
from farthing.accounting.v1 import ledger_service_pb2_grpc as ledger_pb_grpc
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.inference.v1 import inference_service_pb2 as inference_pb
from farthing.inference.v1 import inference_service_pb2_grpc as inference_pb_grpc
from farthing.type.v1 import model_pb2
from farthing_cli import report, tenants
from farthing_cli.generation import Gateway
from farthing_cli.mesh import Mesh, read_secret
from farthing_cli.state import StateFolder
from farthing_cli.up.children import LocalMesh
from farthing_cli.up.options import SERVERS, SERVICES, UpOptions
from farthing_cli.up.supervisor import Child, Part
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner
from farthing_kit.errors import FarthingError, StoreUnavailable
from farthing_kit.local.process import free_port
from farthing_kit.local.wheels import config_dir
from farthing_kit.testing.proxy import FaultProxy
from farthing_kit.testing.server import operator_context

BOOKED_WITHIN_S = 30.0
POOLS = Path(__file__).with_name("pools.toml")
POLL_S = 0.05
# Which Redis is whose.
REDIS_OF = {"accounting": "redis", "cache": "redis-cache"}


class MeshUnderTest:
    """Every service and server of the mesh as a child process of this one. What is stopped stays down until started.

    The services named in `far_from_redis` reach theirs through a proxy each, which can part them: `to_redis`.
    """

    def __init__(
        self,
        state: Path,
        *,
        models: tuple[str, ...] = ("echo", "echo-slow"),
        pools: Path = POOLS,
        far_from_redis: tuple[str, ...] = (),
    ) -> None:
        self.folder = StateFolder(state)
        self.folder.prepare()
        free = dict.fromkeys(SERVERS + SERVICES, 0)
        self._local = LocalMesh(UpOptions(state, free, models, pools_file=pools), self.folder)
        self._parts: dict[str, Part] = {part.name: part for part in self._local.parts()}
        self._children: dict[str, Child] = {}
        ports = {name: int(self.address[REDIS_OF[name]].rpartition(":")[2]) for name in far_from_redis}
        self.to_redis = {name: FaultProxy(port) for name, port in ports.items()}
        self._stack = AsyncExitStack()

    @property
    def address(self) -> dict[str, str]:
        """Where each part listens."""
        return {name: part.address for name, part in self._parts.items()}

    @property
    def client(self) -> Mesh:
        """How commands see this mesh."""
        return Mesh(self.address["gateway"], self.address["accounting"], self.folder.mesh_secret_file, self.folder)

    @property
    def postgres_dsn(self) -> str:
        """Where the books lie, for who wants to read them without accounting."""
        return self._local.postgres_dsn

    async def __aenter__(self) -> Self:
        try:
            for name, proxy in self.to_redis.items():
                await self._stack.enter_async_context(proxy)
                self._parts[name] = self._through(name, proxy)
            self._stack.push_async_callback(self._stop_all)
            await self._start_all()
        except BaseException:
            await self._stack.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def start(self, name: str) -> None:
        """Start a part that is down, and wait until it is ready."""
        self._children[name] = await self._parts[name].start()

    async def stop(self, name: str) -> None:
        """Stop a part in good order."""
        await self._children.pop(name).stop()

    async def kill(self, name: str) -> None:
        """End a part as kill -9 does."""
        child = self._children.pop(name)
        os.kill(child.pid, signal.SIGKILL)
        await child.wait()

    def pause(self, name: str) -> None:
        """A part that hangs: its connections stay, and nothing answers."""
        os.kill(self._children[name].pid, signal.SIGSTOP)

    def go_on(self, name: str) -> None:
        """End of the pause."""
        os.kill(self._children[name].pid, signal.SIGCONT)

    @asynccontextmanager
    async def another(self, name: str, **settings: str) -> AsyncIterator[str]:
        """A second replica of a service, with settings of its own; its address."""
        port = free_port()
        address = f"127.0.0.1:{port}"
        own = {f"FARTHING_{name.upper()}_BIND": address, **settings}
        child = await self._local.start_service(name, replica=f"{name}-{port}", settings=own)()
        try:
            yield address
        finally:
            await child.stop()

    async def gateway(self, org: str = "lantern", timeout_s: float = 30.0) -> Gateway:
        """The gateway, in the name of a demonstration tenant."""
        opened = await self._stack.enter_async_context(channel(self.address["gateway"]))
        return Gateway(opened, self.client.api_key(org), timeout_s)

    async def bare_channel(self, name: str = "gateway") -> grpc.aio.Channel:
        """A channel without any of the kit, to send what the kit would not."""
        return await self._stack.enter_async_context(grpc.aio.insecure_channel(self.address[name]))

    async def booked(self, requests: int) -> None:
        """Wait until the ledger has that many requests: it is written in batches, a moment after the answer."""
        async with asyncio.timeout(BOOKED_WITHIN_S):
            while (await report.fetch(self.client, "tenant", None)).total.requests < requests:
                await asyncio.sleep(POLL_S)

    @asynccontextmanager
    async def inside(self, name: str) -> AsyncIterator[grpc.aio.Channel]:
        """A channel to a service, in the name of an operator."""
        signer = ContextSigner(read_secret(self.folder.mesh_secret_file))
        async with channel(self.address[name], signer=signer, identity=operator_context()) as opened:
            yield opened

    async def booked_request(self, request_id: str) -> None:
        """Wait until the ledger has one request; after an outage, until it can be read again too."""
        query = ledger_pb.QueryRequest(request_id=request_id)
        async with asyncio.timeout(BOOKED_WITHIN_S), self.client.as_operator() as opened:
            stub = ledger_pb_grpc.LedgerServiceStub(opened)
            while True:
                with suppress(StoreUnavailable):
                    if (await stub.Query(query)).transactions:
                        return
                await asyncio.sleep(POLL_S)

    async def idle(self, pool: str) -> None:
        """Wait until nothing runs in a pool."""
        async with asyncio.timeout(BOOKED_WITHIN_S), self.inside("inference") as opened:
            stub = inference_pb_grpc.InferenceServiceStub(opened)
            while any(each.in_flight for each in (await stub.ListPools(inference_pb.ListPoolsRequest())).pools):
                await asyncio.sleep(POLL_S)

    async def until_answers(self, asked: pb.Prompt, org: str = "lantern") -> None:
        """Wait until a request is answered without any degradation: connections come back with a backoff."""
        gateway = await self.gateway(org)
        async with asyncio.timeout(BOOKED_WITHIN_S):
            while not await self._answers(gateway, asked):
                await asyncio.sleep(POLL_S)

    async def _answers(self, gateway: Gateway, asked: pb.Prompt) -> bool:
        try:
            return not (await gateway.ask(asked)).decision.degradations
        except FarthingError:
            return False

    def _through(self, name: str, proxy: FaultProxy) -> Part:
        start = self._local.start_service(
            name, settings={f"FARTHING_{name.upper()}_REDIS_URL": f"redis://{proxy.address}/0"}
        )
        return replace(self._parts[name], start=start)

    async def _start_all(self) -> None:
        begun: dict[str, asyncio.Task[None]] = {}

        async def after_needs(part: Part) -> None:
            await asyncio.gather(*(begun[need] for need in part.needs))
            await self.start(part.name)

        async with asyncio.TaskGroup() as group:
            for part in self._parts.values():
                begun[part.name] = group.create_task(after_needs(part))
        keys = await tenants.apply(self.client, config_dir() / "accounting" / "tenants.toml")
        self.folder.write_keys({**self.folder.keys(), **keys})

    async def _stop_all(self) -> None:
        for name in [*reversed(SERVICES), *SERVERS]:
            if name in self._children:
                await self.stop(name)


def prompt(text: str, *, model: str = "echo", max_tokens: int = 16, no_cache: bool = False) -> pb.Prompt:
    """A question for the model that repeats it."""
    return pb.Prompt(
        messages=[model_pb2.ChatMessage(role=model_pb2.CHAT_ROLE_USER, content=text)],
        sampling=model_pb2.Sampling(max_output_tokens=max_tokens),
        cache_control=pb.CacheControl(no_cache=no_cache, no_store=no_cache),
        model=model,
    )
