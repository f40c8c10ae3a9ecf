"""What the queue costs: scheduler.Generate against the same inference.Generate called directly, in one run.

    python -m services.scheduler.bench.hop [--calls 500] [--script "one two three"]

NATS, the scheduler and an inference that answers at once are processes of their own. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from farthing.inference.v1 import inference_service_pb2
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from farthing_kit import nats as kit_nats
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner, use_context
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec
from farthing_kit.testing.server import serving, tenant_context
from farthing_kit.testing.settings import TEST_SECRET
from services.scheduler.tests.fake_inference import FakeInference, service
from services.scheduler.tests.mesh import MODEL, USAGE, connection, request, until

Call = Callable[[], Awaitable[None]]


async def _serve_inference() -> None:
    async with serving(service(FakeInference(MODEL))) as server:
        print(json.dumps({"ready": "inference", "port": server.server.port}), flush=True)
        await asyncio.Event().wait()


async def _child(name: str, argv: list[str], folder: Path, env: dict[str, str]) -> tuple[ChildProcess, int]:
    child = ChildProcess(Spec(name, argv, folder / f"{name}.log", env={**os.environ, **env}))
    child.spawn()
    await until(lambda: '"ready"' in child.spec.log.read_text() if child.spec.log.exists() else False)
    line = next(line for line in child.spec.log.read_text().splitlines() if line.startswith('{"ready"'))
    return child, int(json.loads(line)["port"])


async def _through(stub: Any, message: Any) -> None:
    with use_context(tenant_context()):
        call = stub.Generate(message, timeout=10)
    async for _ in call:
        pass


async def _latencies_ms(calls: dict[str, Call], count: int) -> dict[str, list[float]]:
    """One in flight, the candidates in turn, so that what else the machine does hits all alike."""
    found: dict[str, list[float]] = {name: [] for name in calls}
    for number in range(count + 50):
        for name, call in calls.items():
            begin = time.perf_counter()
            await call()
            if number >= 50:
                found[name].append((time.perf_counter() - begin) * 1000)
    return found


async def _rate(call: Call, count: int, in_flight: int) -> float:
    turn = asyncio.Semaphore(in_flight)

    async def one() -> None:
        async with turn:
            await call()

    begin = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return count / (time.perf_counter() - begin)


async def _measure(folder: Path, calls: int, script: str) -> dict[str, float]:
    (folder / "secret").write_bytes(TEST_SECRET)
    nats = await Nats(folder / "nats", log=folder / "nats.log").start()
    async with connection(nats.url) as client:
        await kit_nats.ensure_stream(client.jetstream(), USAGE)
    inference, inference_port = await _child("inference", [sys.executable, "-m", __spec__.name, "--serve"], folder, {})
    env = {
        "FARTHING_MESH_SECRET_FILE": str(folder / "secret"),
        "FARTHING_SCHEDULER_BIND": "127.0.0.1:0",
        "FARTHING_SCHEDULER_NATS_URL": nats.url,
        "FARTHING_SCHEDULER_NATS_MONITOR_URL": nats.monitor_url,
        "FARTHING_SCHEDULER_INFERENCE_TARGET": f"127.0.0.1:{inference_port}",
        "FARTHING_SCHEDULER_OUTBOX_DIR": str(folder / "outbox"),
    }
    scheduler, port = await _child("scheduler", [sys.executable, "-m", "farthing_scheduler"], folder, env)
    signer = ContextSigner(TEST_SECRET)
    try:
        async with (
            channel(f"127.0.0.1:{inference_port}", signer=signer) as direct,
            channel(f"127.0.0.1:{port}", signer=signer) as queued,
        ):
            asked = request(script)
            plain = inference_service_pb2.GenerateRequest(
                model=asked.model, messages=asked.messages, sampling=asked.sampling
            )
            return await _figures(
                {
                    "direct": lambda: _through(InferenceServiceStub(direct), plain),
                    "queued": lambda: _through(SchedulerServiceStub(queued), asked),
                },
                calls,
            )
    finally:
        for child in (scheduler, inference):
            await child.stop()
        await nats.stop()


async def _figures(candidates: dict[str, Call], calls: int) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name, times in (await _latencies_ms(candidates, calls)).items():
        figures[f"{name}_p50_ms"] = round(statistics.median(times), 3)
        figures[f"{name}_p99_ms"] = round(statistics.quantiles(times, n=100)[98], 3)
    figures["hop_p50_ms"] = round(figures["queued_p50_ms"] - figures["direct_p50_ms"], 3)
    for name, call in candidates.items():
        figures[f"{name}_rps_c32"] = round(await _rate(call, calls, 32), 1)
    return figures


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=500)
    parser.add_argument("--script", default="one two three")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        asyncio.run(_serve_inference())
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(_measure(Path(folder), options.calls, options.script))
    print(json.dumps({"bench": "scheduler-hop", "machine": platform.platform(), "figures": figures}, indent=2))


if __name__ == "__main__":
    main()
