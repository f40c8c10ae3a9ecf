"""What the kit costs a call: bare grpc.aio echo against the same echo with kit server and kit client, in one run.

    python -m libs.kit.bench.overhead [--seconds 3] [--rounds 5] [--write]

Every variant has its server in a process of its own, and the rounds are interleaved, so that a busy machine hits all of
them alike. Compare the ratios, not the milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue

from bench import results
from farthing_kit import client, telemetry
from farthing_kit.context import ContextSigner
from farthing_kit.local.collector import Collector
from farthing_kit.local.process import ChildProcess, Spec, free_port, tcp_open
from farthing_kit.server import Server
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import Telemetry
from farthing_kit.testing.echo import EchoServicer, EchoStub, add_EchoServicer_to_server, echo_service
from farthing_kit.testing.server import tenant_context
from farthing_kit.testing.settings import TEST_SECRET, settings

PAYLOAD = StringValue(value="x" * 500)
ENDPOINT = "BENCH_OTLP"
VARIANTS = ("bare", "kit", "kit_traced")
NOTES = (
    "500 B unary echo at 1 and 32 in flight, stream of 3,000 messages; client, server and (for kit_traced) the "
    "receiver of spans share the machine. kit_traced records and sends every span of both sides. On a machine that "
    "does other work, p10 tells what a call costs when nothing interferes."
)
ROOT = Path(__file__).parents[3]


def telemetry_of(variant: str) -> Telemetry:
    return telemetry.with_otlp("bench", os.environ[ENDPOINT]) if variant == "kit_traced" else Telemetry("bench")


async def serve(variant: str, port: int) -> None:
    if variant == "bare":
        server = grpc.aio.server()
        add_EchoServicer_to_server(EchoServicer(), server)
        server.add_insecure_port(f"127.0.0.1:{port}")
        await server.start()
        await server.wait_for_termination()
        return
    config = settings(ServiceSettings, bind=f"127.0.0.1:{port}", max_concurrent=1000)
    signer = ContextSigner(TEST_SECRET)
    made = telemetry_of(variant)
    async with Server([echo_service()], settings=config, telemetry=made, verifier=signer):
        await made.run()
        await asyncio.Event().wait()


def channel(variant: str, port: int, made: Telemetry) -> Any:
    address = f"127.0.0.1:{port}"
    if variant == "bare":
        return grpc.aio.insecure_channel(address)
    return client.channel(address, telemetry=made, signer=ContextSigner(TEST_SECRET), identity=tenant_context())


async def latencies(stub: EchoStub, seconds: float, in_flight: int) -> tuple[list[float], float]:
    found: list[float] = []
    end = time.perf_counter() + seconds

    async def caller() -> None:
        while (start := time.perf_counter()) < end:
            await stub.Say(PAYLOAD, timeout=5)
            found.append(time.perf_counter() - start)

    begin = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(in_flight)))
    return found, len(found) / (time.perf_counter() - begin)


async def stream_rate(stub: EchoStub, messages: int) -> float:
    start = time.perf_counter()
    count = 0
    async for _ in stub.Repeat(StringValue(value="x" * messages), timeout=60):
        count += 1
    assert count == messages
    return count / (time.perf_counter() - start)


async def measure(ports: dict[str, int], seconds: float, rounds: int) -> dict[str, float]:
    samples: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    streams: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for round_number in range(rounds + 1):
        for variant in VARIANTS:
            told = telemetry_of(variant)
            sender = asyncio.create_task(told.run())
            async with channel(variant, ports[variant], told) as made:
                stub = EchoStub(made)
                one, _ = await latencies(stub, seconds / 3, 1)
                _, rate = await latencies(stub, seconds / 3, 32)
                stream = await stream_rate(stub, 3_000)
            sender.cancel()
            await asyncio.wait({sender})
            if round_number:  # the first warms up
                samples[variant] += one
                rates[variant].append(rate)
                streams[variant].append(stream)
    return figures(samples, rates, streams)


def figures(
    samples: dict[str, list[float]], rates: dict[str, list[float]], streams: dict[str, list[float]]
) -> dict[str, float]:
    found: dict[str, float] = {}
    for variant in VARIANTS:
        ordered = sorted(samples[variant])
        found[f"{variant}_p10_ms"] = round(ordered[len(ordered) // 10] * 1000, 3)
        found[f"{variant}_p50_ms"] = round(statistics.median(ordered) * 1000, 3)
        found[f"{variant}_p99_ms"] = round(ordered[int(len(ordered) * 0.99)] * 1000, 3)
        found[f"{variant}_rps_c32"] = round(statistics.median(rates[variant]))
        found[f"{variant}_stream_msgs_per_s"] = round(statistics.median(streams[variant]))
    for variant in VARIANTS[1:]:
        found[f"{variant}_p10_ratio"] = round(found[f"{variant}_p10_ms"] / found["bare_p10_ms"], 3)
        found[f"{variant}_p50_ratio"] = round(found[f"{variant}_p50_ms"] / found["bare_p50_ms"], 3)
        found[f"{variant}_rps_ratio"] = round(found[f"{variant}_rps_c32"] / found["bare_rps_c32"], 3)
    return found


async def run(seconds: float, rounds: int, write: bool) -> None:
    ports = {variant: free_port() for variant in VARIANTS}
    log = Path(os.devnull)
    children = []
    sink = Collector(Path(tempfile.mkdtemp()), log=log)
    os.environ[ENDPOINT] = sink.endpoint
    try:
        children.append((await sink.start()).process)
        for variant, port in ports.items():
            argv = [sys.executable, "-m", "libs.kit.bench.overhead", "--serve", variant, "--port", str(port)]
            children.append(await ChildProcess(Spec(variant, argv, log, cwd=ROOT)).start(tcp_open(port)))
        found = await measure(ports, seconds, rounds)
    finally:
        for child in children:
            await child.stop()
    report(found, write)


def report(found: dict[str, float], write: bool) -> None:
    print(json.dumps(found, indent=2))
    if write:
        results.write("kit_overhead", found, seed=0, notes=NOTES)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="a variant takes in each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--write", action="store_true", help="write bench/results/kit_overhead.json")
    parser.add_argument("--serve", choices=VARIANTS, help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        asyncio.run(serve(args.serve, args.port))
    else:
        asyncio.run(run(args.seconds, args.rounds, args.write))


if __name__ == "__main__":
    main()
