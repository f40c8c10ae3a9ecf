"""The cache service as it runs: a real Redis, a real NATS, replicas as processes of their own, called through gRPC."""

import sys
import tempfile
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from redis.asyncio import Redis as RedisConnection

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1 import model_pb2
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.onnx_verifier import OnnxVerifier
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec, free_port, tcp_says
from farthing_kit.local.redis import CACHE, Redis
from farthing_kit.testing.server import tenant_context
from farthing_kit.testing.settings import TEST_SECRET
from tests.support.evidence import plant

DIMENSION = 384
TASK = model_pb2.TASK_QUESTION_ANSWERING
DELTA = 0.05
NAMES = KeyNames(TEST_SECRET)
ENCODER = bytes.fromhex(OnnxVerifier.load().encoder_sha256)
Vectors = npt.NDArray[np.float32]


@dataclass
class Running:
    """Replicas of the cache, and the Redis under them."""

    redis_url: str
    addresses: list[str]
    stack: AsyncExitStack
    processes: list[ChildProcess]

    async def stub(self, replica: int = 0, org: str = "acme") -> CacheServiceStub:
        """A replica, in the name of a tenant."""
        signer = ContextSigner(TEST_SECRET)
        opened = channel(self.addresses[replica], signer=signer, identity=tenant_context(org), timeout_s=60.0)
        return CacheServiceStub(await self.stack.enter_async_context(opened))

    async def raw(self) -> RedisConnection:
        """Redis itself."""
        return await self.stack.enter_async_context(RedisConnection.from_url(self.redis_url))


@asynccontextmanager
async def running(replicas: int = 1, **settings: str) -> AsyncIterator[Running]:
    """Start everything, stop everything."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farthing-bench-")))
        redis = await Redis(folder / "redis", log=folder / "redis.log", durable=False, config=CACHE).start()
        stack.push_async_callback(redis.stop)
        nats = await Nats(folder / "nats", log=folder / "nats.log").start()
        stack.push_async_callback(nats.stop)
        (folder / "secret").write_bytes(TEST_SECRET)
        children, addresses = [], []
        for number in range(replicas):
            port = free_port()
            common = {
                "FARTHING_MESH_SECRET_FILE": str(folder / "secret"),
                "FARTHING_REDIS_URL": redis.url,
                "FARTHING_NATS_URL": nats.url,
                "FARTHING_CACHE_BIND": f"127.0.0.1:{port}",
                "FARTHING_CACHE_METRICS_BIND": "",
                **{f"FARTHING_CACHE_{name.upper()}": value for name, value in settings.items()},
            }
            child = ChildProcess(
                Spec("cache", [sys.executable, "-m", "farthing_cache"], folder / f"cache{number}.log", env=common)
            )
            await child.start(tcp_says(port, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", b"\0\0"))
            stack.push_async_callback(child.stop)
            children.append(child)
            addresses.append(f"127.0.0.1:{port}")
        raw = await stack.enter_async_context(RedisConnection.from_url(redis.url))
        await raw.config_set("maxmemory", 0)  # what is measured is speed; how full it gets is measured apart
        yield Running(redis.url, addresses, stack, children)


async def trust(redis_url: str, orgs: Iterable[str]) -> None:
    """Give organisations the evidence that months of right answers would have left: what is measured is the way of a
    hit."""
    for org in orgs:
        await plant(redis_url, NAMES, org, [TASK], DELTA)


def question(number: int, article: str) -> str:
    """A question; two articles make two questions that mean the same."""
    names = ("Lisbon", "Oslo", "Quito", "Hanoi", "Dakar", "Lima", "Sofia", "Riga", "Accra", "Tunis")
    things = ("capital", "river", "museum", "harbour", "market", "tower", "bridge", "garden", "palace", "station")
    return f"What is {article} famous {things[number // 10 % 10]} near {names[number % 10]} called?"


def units(dice: np.random.Generator, count: int) -> Vectors:
    """Unit vectors in random directions."""
    made = dice.normal(size=(count, DIMENSION)).astype(np.float32)
    return np.asarray(made / np.linalg.norm(made, axis=1, keepdims=True), np.float32)


def nearby(dice: np.random.Generator, vectors: Vectors, cosine: float | Vectors) -> Vectors:
    """A vector at a cosine from each, or each at its own (a column)."""
    across = units(dice, len(vectors))
    across -= np.sum(across * vectors, axis=1, keepdims=True) * vectors
    across /= np.linalg.norm(across, axis=1, keepdims=True)
    return np.asarray(cosine * vectors + (1 - cosine**2) ** 0.5 * across, np.float32)


def key(prompt: bytes, compatibility: bytes = b"c") -> pb.CacheKey:
    """The key of a request."""
    return pb.CacheKey(compatibility_digest=compatibility * 32, prompt_digest=prompt.ljust(32, b".")[:32])


def meaning(text: str, vector: Vectors) -> pb.Meaning:
    """What a request means."""
    return pb.Meaning(embedding=vector.astype("<f4").tobytes(), encoder_sha256=ENCODER, text=text)


def answer(text: str) -> pb.CachedAnswer:
    """A complete answer of a small model."""
    return pb.CachedAnswer(
        text=text,
        finish_reason=model_pb2.FINISH_REASON_STOP,
        usage=TokenUsage(fresh_input_tokens=20, output_tokens=100),
        tier=model_pb2.TIER_SMALL,
        model="small",
        quantization="INT4",
    )
