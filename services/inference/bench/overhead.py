"""What this service adds to a Triton stream: the same echo asked of Triton and of the service, in turns, in one run.

    python services/inference/bench/overhead.py [--rounds 1000] [--words 8]

The service and Triton are processes of their own; the client is this one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from farthing.inference.v1 import inference_service_pb2 as pb
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing.type.v1 import model_pb2
from farthing_inference.adapters.triton.commands import DIALECTS
from farthing_inference.domain.generation import Sampling
from farthing_kit import client
from farthing_kit.context import ContextSigner
from farthing_kit.local.triton import Triton
from farthing_kit.testing.server import tenant_context
from farthing_kit.testing.settings import TEST_SECRET

ROOT = Path(__file__).parents[3]
WARM_UP = 50
LIMIT = 256
TIMEOUT_S = 10.0
CONCURRENCY = 16
# Seconds to the first text, and to the end.
Ask = Callable[[], Awaitable[tuple[float, float]]]


@dataclass(frozen=True)
class Direct:
    """Asks Triton itself, with the same tensors."""

    stub: Any
    text: str

    async def __call__(self) -> tuple[float, float]:
        began = time.perf_counter()
        request = service_pb2.ModelInferRequest(model_name="echo")
        request.parameters["triton_enable_empty_final_response"].bool_param = True
        DIALECTS["vllm"].fill(request, self.text, Sampling(LIMIT))
        call = self.stub.ModelStreamInfer(timeout=TIMEOUT_S)
        await call.write(request)
        await call.done_writing()
        return await _times(began, call, lambda message: bool(message.infer_response.outputs))


@dataclass(frozen=True)
class Service:
    """Asks the inference service."""

    stub: Any
    text: str

    async def __call__(self) -> tuple[float, float]:
        began = time.perf_counter()
        request = pb.GenerateRequest(
            model="echo",
            messages=[model_pb2.ChatMessage(role=model_pb2.CHAT_ROLE_USER, content=self.text)],
            sampling=model_pb2.Sampling(max_output_tokens=LIMIT),
        )
        call = self.stub.Generate(request, timeout=TIMEOUT_S)
        return await _times(began, call, lambda message: message.HasField("chunk"))


async def _times(began: float, messages: Any, has_text: Callable[[Any], bool]) -> tuple[float, float]:
    first = None
    async for message in messages:
        if first is None and has_text(message):
            first = time.perf_counter() - began
    if first is None:
        raise RuntimeError("an answer without text")
    return first, time.perf_counter() - began


@asynccontextmanager
async def service(triton: str, folder: Path) -> AsyncIterator[str]:
    """The service as a process; gives its address."""
    secret = folder / "secret"
    secret.write_bytes(TEST_SECRET)
    settings = {
        "FARTHING_MESH_SECRET_FILE": str(secret),
        "FARTHING_INFERENCE_BIND": "127.0.0.1:0",
        "FARTHING_INFERENCE_POOLS_FILE": str(ROOT / "deploy/config/pools.toml"),
        "FARTHING_TRITON_LOCAL": triton,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "farthing_inference", env={**os.environ, **settings}, stdout=subprocess.PIPE
    )
    try:
        assert process.stdout is not None
        yield f"127.0.0.1:{json.loads(await process.stdout.readline())['port']}"
    finally:
        process.terminate()
        await process.wait()


async def in_turns(asks: dict[str, Ask], rounds: int) -> dict[str, float]:
    """Medians and more, in milliseconds, one call at a time, the kinds taking turns."""
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in asks}
    for _ in range(WARM_UP + rounds):
        for name, ask in asks.items():
            samples[name].append(await ask())
    return {
        f"{name}_{what}_{quantile}_ms": round(_quantile([pair[index] for pair in pairs[WARM_UP:]], share) * 1000, 3)
        for name, pairs in samples.items()
        for index, what in enumerate(("first", "all"))
        for quantile, share in (("p50", 0.5), ("p99", 0.99))
    }


async def together(ask: Ask, calls: int) -> float:
    """Calls a second with several in flight."""
    places = asyncio.Semaphore(CONCURRENCY)

    async def one() -> None:
        async with places:
            await ask()

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(calls)))
    return round(calls / (time.perf_counter() - began), 1)


def _quantile(values: list[float], share: float) -> float:
    return sorted(values)[int(len(values) * share)]


async def main() -> None:
    """Run, and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--words", type=int, default=8)
    options = parser.parse_args()
    text = " ".join(["word"] * options.words)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        triton = await Triton(["small", "medium", "large", "echo"], log=folder / "triton.log").start()
        try:
            async with service(triton.address, folder) as address:
                figures = await measure(triton.address, address, text, options.rounds)
        finally:
            await triton.stop()
    print(json.dumps({"bench": "inference-overhead", **about(), "words": options.words, "figures": figures}, indent=2))


async def measure(triton: str, address: str, text: str, rounds: int) -> dict[str, float]:
    """All figures."""
    async with grpc.aio.insecure_channel(triton) as plain:
        mesh = client.channel(address, signer=ContextSigner(TEST_SECRET), identity=tenant_context())
        asks: dict[str, Ask] = {
            "direct": Direct(service_pb2_grpc.GRPCInferenceServiceStub(plain), text),
            "service": Service(InferenceServiceStub(mesh), text),
        }
        figures = await in_turns(asks, rounds)
        for name, ask in asks.items():
            figures[f"{name}_rps_c{CONCURRENCY}"] = await together(ask, rounds)
        await mesh.close()
    return figures


def about() -> dict[str, Any]:
    """Machine, load and commit: nothing here is random."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}",
        "load": os.getloadavg()[0],
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    asyncio.run(main())
