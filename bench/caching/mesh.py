"""The whole mesh, asked through its gateways: 200 callers ask the same at once of three gateways over three replicas of
the cache, also when the gateway of the leader is killed; and how long a hit takes through a gateway, the embedding of
the prompt included. The model echoes, at about 60 ms a token for the crowd. Everything runs on this one machine."""

import argparse
import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from bench.results import quantile
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1.model_pb2 import CacheLevel
from farthing_cli import report
from farthing_cli.generation import Answer, Gateway
from farthing_kit.client import channel
from tests.support.evidence import trust
from tests.support.mesh import MeshUnderTest, prompt

NOTES = __doc__ or ""
ORG = "lantern"
CALLERS = 200
HITS = 300
# What is counted is calls and bytes: on a machine that is busy with 200 callers, patience is not what is measured.
PATIENT = {
    "CACHE_REDIS_TIMEOUT_MS": "5000",
    "GATEWAY_LOOK_UP_TIMEOUT_MS": "10000",
    "GATEWAY_STORE_TIMEOUT_MS": "10000",
}
LONG = " ".join(f"word{number}" for number in range(60))
THINGS = ("capital", "river", "museum", "harbour", "market", "tower", "bridge", "garden", "palace", "station")
PLACES = ("Lisbon", "Oslo", "Quito", "Hanoi", "Dakar", "Lima", "Sofia", "Riga", "Accra", "Tunis")


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run())


async def _run() -> dict[str, float]:
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="farthing-bench-") as folder:
        async with _running(Path(folder) / "calm", PATIENT) as (mesh, gateways):
            figures |= await _crowd(mesh, gateways)
            figures |= await _killed(mesh, gateways)
        async with _running(Path(folder) / "usual", {"GATEWAY_NEAR_CACHE_BYTES": "0"}) as (mesh, gateways):
            await trust(mesh, ORG)
            figures |= await _latencies(gateways[0])
    return {**figures, "load_average": os.getloadavg()[0]}


@asynccontextmanager
async def _running(state: Path, settings: dict[str, str]) -> AsyncIterator[tuple[MeshUnderTest, list[Gateway]]]:
    """Three gateways, the first of which is the mesh's own, over three replicas of the cache."""
    before = dict(os.environ)
    os.environ.update({f"FARTHING_{name}": value for name, value in settings.items()})
    try:
        async with MeshUnderTest(state) as mesh, AsyncExitStack() as stack:
            caches = [await stack.enter_async_context(mesh.another("cache")) for _ in range(2)]
            targets = {"FARTHING_GATEWAY_CACHE_TARGET": ",".join((mesh.address["cache"], *caches))}
            addresses = [await stack.enter_async_context(mesh.another("gateway", **targets)) for _ in range(2)]
            opened = [await stack.enter_async_context(channel(each)) for each in (mesh.address["gateway"], *addresses)]
            yield mesh, [Gateway(each, mesh.client.api_key(ORG), 100.0) for each in opened]
    finally:
        os.environ.clear()
        os.environ.update(before)


def _slow(text: str) -> pb.Prompt:
    return prompt(text, model="echo-slow", max_tokens=256)


async def _calls(mesh: MeshUnderTest, requests: int) -> int:
    """Model calls in the ledger, once it has that many requests."""
    await mesh.booked(requests)
    rows = (await report.fetch(mesh.client, "cache", None)).rows
    return sum(_made(row) for row in rows)


def _made(row: report_pb.CostRow) -> int:
    return row.requests - row.cache_hits


async def _crowd(mesh: MeshUnderTest, gateways: list[Gateway]) -> dict[str, float]:
    answers = await asyncio.gather(*(gateways[n % len(gateways)].ask(_slow(LONG)) for n in range(CALLERS)))
    return {
        "upstream_calls": float(await _calls(mesh, CALLERS)),
        "mesh_same_bytes": float({answer.text for answer in answers} == {LONG}),
        "mesh_crowd_p50_s": quantile([answer.duration_s for answer in answers], 0.5),
        "mesh_crowd_last_s": max(answer.duration_s for answer in answers),
    }


async def _killed(mesh: MeshUnderTest, gateways: list[Gateway]) -> dict[str, float]:
    """The gateway that leads is killed once the others hear its answer; its own call counts too."""
    text = LONG + " and then its gateway was killed"
    speaking, listening = asyncio.Event(), asyncio.Event()
    led = asyncio.create_task(gateways[0].ask(_slow(text), lambda _: speaking.set()))
    await speaking.wait()
    others = [
        asyncio.create_task(gateways[1 + n % 2].ask(_slow(text), lambda _: listening.set())) for n in range(CALLERS - 1)
    ]
    await listening.wait()
    await mesh.kill("gateway")
    answers = await asyncio.gather(*others)
    await asyncio.gather(led, return_exceptions=True)  # its caller hears that the gateway is gone
    return {
        "upstream_calls_gateway_killed": 1.0 + sum(bool(answer.final.calls) for answer in answers),
        "mesh_same_bytes_gateway_killed": float({answer.text for answer in answers} == {text}),
        "mesh_killed_last_s": max(answer.duration_s for answer in answers),
    }


async def _latencies(gateway: Gateway) -> dict[str, float]:
    """Hits, one after the other: exact ones through the cache service, and those that mean the same."""
    questions = [f"What is the famous {thing} near {place} called?" for thing in THINGS for place in PLACES]
    for question in questions:
        await gateway.ask(prompt(question, max_tokens=32))
    took: dict[int, list[float]] = {CacheLevel.CACHE_LEVEL_EXACT: [], CacheLevel.CACHE_LEVEL_SEMANTIC: []}
    for number in range(HITS):
        question = questions[number % len(questions)]
        for asked in (question, question.replace("What is the famous", "what's the famous").rstrip("?")):
            answer = await _probed(gateway, asked)
            # Some are asked anew for the sake of evidence; some questions found another's answer, and have none.
            if answer.decision.cache_level in took:
                took[answer.decision.cache_level].append(answer.duration_s * 1000)
    figures: dict[str, float] = {}
    for name, each in zip(("hit", "semantic"), took.values(), strict=True):
        figures |= {f"gateway_{name}_p50_ms": quantile(each, 0.5), f"gateway_{name}_p99_ms": quantile(each, 0.99)}
        figures[f"gateway_{name}s_of_{HITS}"] = float(len(each))
    return figures


async def _probed(gateway: Gateway, question: str) -> Answer:
    """Asked so that the answer stays in no memory."""
    asked = prompt(question, max_tokens=32)
    asked.cache_control.no_store = True
    return await gateway.ask(asked)
