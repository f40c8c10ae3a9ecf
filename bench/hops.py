"""What each hop costs: a bare gRPC echo against a near hit, an exact hit, and a full miss, all in one run.

    python -m bench.hops [--seed 1]

Every request is a unary call from this process to another one on the same machine. `echo` is a grpc.aio server with
nothing in it; `near` is answered from the gateway's memory; `exact` by a gateway whose memory is switched off, from
Redis; `miss` goes through every service, classifier included, to a Triton model that echoes. The four take turns in
short rounds, so that a slow moment of the machine falls on all of them.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import grpc

from bench import results
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_kit.local.process import ChildProcess, Spec, free_port, tcp_open
from tests.support.mesh import MeshUnderTest, prompt

COMPLETE = "/farthing.gateway.v1.GatewayService/Complete"
ECHO = "/bench.Echo/Echo"
ROUNDS = 10
IN_FLIGHT = 32
MAX_STRAYS = 0.01
PER_ROUND = {"echo": 200, "near": 200, "exact": 100, "miss": 40}
QUESTION = "Which of the planets of the solar system is the largest, number"
# With 32 callers on two cores a step may take longer than a mesh in service would wait for it; and the life of an entry
# in memory, which is absolute, must outlast the bench.
SETTINGS = {
    "FARTHING_GATEWAY_LOOK_UP_TIMEOUT_MS": "2000",
    "FARTHING_GATEWAY_ANALYZE_TIMEOUT_MS": "2000",
    "FARTHING_GATEWAY_ACCOUNTING_TIMEOUT_MS": "5000",
    "FARTHING_GATEWAY_NEAR_CACHE_TTL_MS": "3600000",
}
LEVELS = {
    "near": model_pb2.CACHE_LEVEL_NEAR,
    "exact": model_pb2.CACHE_LEVEL_EXACT,
    "miss": model_pb2.CACHE_LEVEL_NONE,
}

Call = Callable[[], Awaitable[None]]


async def serve_echo(port: int) -> None:
    """The bare server, in a process of its own."""

    async def echo(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        del context
        return request

    server = grpc.aio.server()
    handlers: Any = {"Echo": grpc.unary_unary_rpc_method_handler(echo)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("bench.Echo", handlers),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


class Caller:
    """Sends the four kinds of request. `strays` were answered in another way than they should be: on a busy machine a
    look-up runs into its time limit now and then, which is a miss."""

    def __init__(self, mesh: MeshUnderTest, channels: Mapping[str, grpc.aio.Channel], seed: int) -> None:
        self._key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
        self._echo: Any = channels["echo"].unary_unary(ECHO)
        self._complete = {kind: self._complete_on(channels[kind]) for kind in LEVELS}
        self._seed = seed
        self._questions = 0
        self.asked = 0
        self.strays = 0

    @staticmethod
    def _complete_on(channel: grpc.aio.Channel) -> Any:
        return channel.unary_unary(
            COMPLETE,
            request_serializer=pb.CompleteRequest.SerializeToString,
            response_deserializer=pb.CompleteResponse.FromString,
        )

    async def echo(self) -> None:
        """As many bytes there and back as a short question has."""
        await self._echo(QUESTION.encode())

    async def near(self) -> None:
        """The same question again and again, to the gateway that remembers."""
        await self._ask("near", f"{QUESTION} {self._seed}")

    async def exact(self) -> None:
        """The same question again and again, to the gateway that remembers nothing."""
        await self._ask("exact", f"{QUESTION} {self._seed}")

    async def miss(self) -> None:
        """A new question each time."""
        self._questions += 1
        await self._ask("miss", f"{QUESTION} {self._seed} {self._questions}")

    async def store(self) -> None:
        """Ask what `near` and `exact` will ask, until both gateways answer it from where they should: an answer is
        kept in the background, a moment after it was given."""
        for kind in ("near", "exact"):
            async with asyncio.timeout(30):
                while await self._level(kind, f"{QUESTION} {self._seed}") != LEVELS[kind]:
                    await asyncio.sleep(0.05)

    async def _ask(self, kind: str, text: str) -> None:
        found = await self._level(kind, text)
        self.asked += 1
        self.strays += found != LEVELS[kind]
        if self.strays > MAX_STRAYS * max(self.asked, 1_000):
            raise SystemExit(
                f"a request meant as {kind} was answered with {model_pb2.CacheLevel.Name(found)}; too many were"
            )

    async def _level(self, kind: str, text: str) -> model_pb2.CacheLevel.ValueType:
        response = await self._complete[kind](self._request(text), metadata=self._key, timeout=30)
        level: model_pb2.CacheLevel.ValueType = response.decision.cache_level
        return level

    @staticmethod
    def _request(text: str) -> pb.CompleteRequest:
        return pb.CompleteRequest(prompt=prompt(text, model="", max_tokens=16))


async def latencies_ms(call: Call, count: int) -> list[float]:
    """How long each of `count` calls took, one after another."""
    found = []
    for _ in range(count):
        start = time.perf_counter()
        await call()
        found.append((time.perf_counter() - start) * 1000)
    return found


async def calls_per_s(call: Call, count: int) -> float:
    """Calls a second with IN_FLIGHT of them at once."""
    left = iter(range(count))

    async def caller() -> None:
        for _ in left:
            await call()

    start = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - start)


async def measure(calls: Mapping[str, Call]) -> dict[str, float]:
    """All figures: latencies at one in flight, then throughput, kinds taking turns."""
    latencies: dict[str, list[float]] = {kind: [] for kind in calls}
    rates: dict[str, list[float]] = {kind: [] for kind in calls}
    for _ in range(ROUNDS):
        for kind, call in calls.items():
            latencies[kind] += await latencies_ms(call, PER_ROUND[kind])
    for _ in range(ROUNDS // 2):
        for kind, call in calls.items():
            rates[kind].append(await calls_per_s(call, 5 * PER_ROUND[kind]))
    figures = {}
    for kind in calls:
        figures[f"{kind}_p50_ms"] = round(results.quantile(latencies[kind], 0.50), 3)
        figures[f"{kind}_p99_ms"] = round(results.quantile(latencies[kind], 0.99), 3)
        figures[f"{kind}_rps_c32"] = round(results.quantile(rates[kind], 0.5), 1)
    return figures


@asynccontextmanager
async def echo_server(folder: Path) -> AsyncIterator[str]:
    """The bare server as a child process; its address."""
    port = free_port()
    spec = Spec("echo", [sys.executable, "-m", "bench.hops", "--serve-echo", str(port)], folder / "echo.log")
    process = await ChildProcess(spec).start(tcp_open(port))
    try:
        yield f"127.0.0.1:{port}"
    finally:
        await process.stop()


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """A folder that PostgreSQL may enter, which runs as another user when this runs as root."""
    with tempfile.TemporaryDirectory(prefix="farthing-hops-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder


async def bench(seed: int) -> None:
    """Start everything, measure, write the result."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        mesh = await stack.enter_async_context(MeshUnderTest(folder / "mesh"))
        mindful = await stack.enter_async_context(mesh.another("gateway", **SETTINGS))
        no_memory = {**SETTINGS, "FARTHING_GATEWAY_NEAR_CACHE_BYTES": "0"}
        forgetful = await stack.enter_async_context(mesh.another("gateway", **no_memory))
        echo = await stack.enter_async_context(echo_server(folder))
        addresses = {"echo": echo, "near": mindful, "exact": forgetful, "miss": mindful}
        channels = {}
        for kind, address in addresses.items():
            channels[kind] = await stack.enter_async_context(grpc.aio.insecure_channel(address))
        caller = Caller(mesh, channels, seed)
        await caller.store()
        calls = {"echo": caller.echo, "near": caller.near, "exact": caller.exact, "miss": caller.miss}
        for call in calls.values():
            await latencies_ms(call, 50)
        figures = await measure(calls)
    said = f"{notes(figures)}; {caller.strays} of {caller.asked} requests were answered from elsewhere than meant"
    path = results.write("hops", figures, seed=seed, notes=said)
    print(f"{said}\n{path}")


def notes(figures: Mapping[str, float]) -> str:
    """The ratios, which is what counts."""
    near, exact = (figures[f"{kind}_p50_ms"] / figures["echo_p50_ms"] for kind in ("near", "exact"))
    return (
        f"unary calls on one machine, tracing on; p50 of near = {near:.2f} x echo (aim 2), "
        f"exact = {exact:.2f} x echo (aim 4), miss = {figures['miss_p50_ms']:.1f} ms (aim 15)"
    )


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--serve-echo", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    asyncio.run(serve_echo(arguments.serve_echo) if arguments.serve_echo else bench(arguments.seed))


if __name__ == "__main__":
    main()
