"""What a judgement costs in time: the classifier as a process of its own, through gRPC from another one.

    python -m bench.routing latency [--seed N]

`stage0` are bundled prompts that the first stage answers alone, without an embedding; `analyze64` and `analyze128` are
prompts of that many tokens, always another one, with their embedding: one after another. `analyze_rps` is throughput
with 16 callers of 12-token prompts. In the same run and in turns: `joined` is the service as it comes, `single_file`
the same lanes without joining what waits, `one_lane` one pass at a time with two threads, as before there were lanes.
Client and server share the cores of the machine.
"""

import argparse
import asyncio
import json
import os
import random
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.resources import files
from pathlib import Path
from typing import Final

from bench.results import Figure, quantile
from farthing.classifier.v1 import classifier_service_pb2 as pb
from farthing.classifier.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from farthing.type.v1.model_pb2 import CHAT_ROLE_USER, ChatMessage
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner, service_context
from farthing_kit.local.process import ChildProcess, Spec, free_port, tcp_open

NOTES = " ".join((__doc__ or "").split())
ENCODER = Path("build") / "models" / "encoder"
IN_FLIGHT: Final = 16
ROUNDS: Final = 8
CALLS: Final = 60  # of each kind in a round of latencies
LOAD_CALLS: Final = 480  # of each arrangement in a round of throughput
LOAD_TOKENS: Final = 12
MARKS: Final = 2  # the encoder's own tokens, which count for its window
TIMEOUT_S: Final = 30.0
# Plain words that the encoder's vocabulary has whole: each is one token.
WORDS: Final = (
    "river stone bread winter market garden letter window paper music table water summer engine village doctor school "
    "bridge forest island morning dinner teacher ticket coffee mountain station camera kitchen record bottle picture"
).split()
ARRANGEMENTS: Final[Mapping[str, Mapping[str, str]]] = {
    "joined": {},
    "single_file": {"MAX_BATCH": "1"},
    "one_lane": {"MAX_BATCH": "1", "WORKERS": "1", "THREADS": "2"},
}

Ask = Callable[[str, bool], Awaitable[pb.AnalyzeResponse]]


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    """All figures."""
    return asyncio.run(measure(random.Random(arguments.seed)))


async def measure(rng: random.Random) -> dict[str, Figure]:
    """Start each arrangement, take latencies of the first, and throughput of all in turns."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="farthing-latency-")))
        asks = {
            name: await stack.enter_async_context(serving(folder / name, ARRANGEMENTS[name])) for name in ARRANGEMENTS
        }
        for ask in asks.values():
            await calls_per_s(ask, rng, LOAD_CALLS)
        return {**await latencies(asks["joined"], rng), **await throughput(asks, rng)}


@asynccontextmanager
async def serving(folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Ask]:
    """A classifier as a child process, and a way to ask it."""
    secret = secrets.token_bytes(32)
    port = free_port()
    process = await ChildProcess(spec(folder, secret, port, settings)).start(tcp_open(port))
    try:
        signer = ContextSigner(secret)
        async with channel(f"127.0.0.1:{port}", signer=signer, identity=service_context("bench")) as opened:
            yield asker(ClassifierServiceStub(opened))
    finally:
        await process.stop()


def spec(folder: Path, secret: bytes, port: int, settings: Mapping[str, str]) -> Spec:
    """What to start."""
    folder.mkdir()
    (folder / "secret").write_bytes(secret)
    env = {
        **os.environ,
        "FARTHING_MESH_SECRET_FILE": str(folder / "secret"),
        "FARTHING_CLASSIFIER_BIND": f"127.0.0.1:{port}",
        "FARTHING_CLASSIFIER_ENCODER_DIR": str(ENCODER.absolute()),
        **{f"FARTHING_CLASSIFIER_{name}": value for name, value in settings.items()},
    }
    return Spec("classifier", [sys.executable, "-m", "farthing_classifier"], folder / "log", env=env)


def asker(stub: ClassifierServiceStub) -> Ask:
    """One call."""

    async def ask(text: str, embedding: bool) -> pb.AnalyzeResponse:
        message = ChatMessage(role=CHAT_ROLE_USER, content=text)
        request = pb.AnalyzeRequest(messages=[message], omit_embedding=not embedding)
        response: pb.AnalyzeResponse = await stub.Analyze(request, timeout=TIMEOUT_S)
        return response

    return ask


async def latencies(ask: Ask, rng: random.Random) -> dict[str, Figure]:
    """Calls one after another, the kinds in turns."""
    decided, share = await decided_alone(ask)
    kinds: dict[str, Callable[[], Awaitable[object]]] = {
        "analyze64": lambda: ask(text_of(64, rng), True),
        "analyze128": lambda: ask(text_of(128, rng), True),
    }
    if decided:
        kinds["stage0"] = lambda: ask(rng.choice(decided), False)
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(ROUNDS):
        for kind, call in kinds.items():
            took[kind] += [await seconds(call) * 1000 for _ in range(CALLS)]
    found: dict[str, Figure] = {"stage0_share_of_bundled_prompts": round(share, 3)}
    for kind, values in took.items():
        found |= {f"{kind}_p{share}_ms": round(quantile(values, share / 100), 2) for share in (50, 99)}
    return found


async def throughput(asks: Mapping[str, Ask], rng: random.Random) -> dict[str, Figure]:
    """Judgements a second, the arrangements in turns: medians of the rounds."""
    rates: dict[str, list[float]] = {name: [] for name in asks}
    for _ in range(ROUNDS):
        for name, ask in asks.items():
            rates[name].append(await calls_per_s(ask, rng, LOAD_CALLS))
    medians = {name: quantile(values, 0.5) for name, values in rates.items()}
    gains = {name: medians["joined"] / medians[name] for name in medians if name != "joined"}
    return {
        "analyze_rps": round(medians["joined"], 1),
        **{f"analyze_rps_{name}": round(rate, 1) for name, rate in medians.items() if name != "joined"},
        **{f"analyze_rps_over_{name}": round(gain, 3) for name, gain in gains.items()},
    }


async def decided_alone(ask: Ask) -> tuple[list[str], float]:
    """The bundled prompts that the first stage answers alone, and their share."""
    prompts = list(bundled())
    responses = [(prompt, await ask(prompt, False)) for prompt in prompts]
    decided = [prompt for prompt, response in responses if response.stage == pb.ANALYSIS_STAGE_LEXICAL]
    return decided, len(decided) / len(prompts)


async def seconds(call: Callable[[], Awaitable[object]]) -> float:
    """How long one call took."""
    begun = time.perf_counter()
    await call()
    return time.perf_counter() - begun


async def calls_per_s(ask: Ask, rng: random.Random, count: int) -> float:
    """Calls a second with IN_FLIGHT of them at once, each of another text."""
    left = iter([text_of(LOAD_TOKENS, rng) for _ in range(count)])

    async def caller() -> None:
        for text in left:
            await ask(text, True)

    begun = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))
    return count / (time.perf_counter() - begun)


def text_of(tokens: int, rng: random.Random) -> str:
    """A text that the encoder reads as so many tokens, its own marks among them."""
    return " ".join(rng.choices(WORDS, k=tokens - MARKS))


def bundled() -> Iterator[str]:
    """The prompts that the encoder is checked with: they come with the project."""
    lines = files("farthing_models").joinpath("gate_prompts.jsonl").read_text("utf-8").splitlines()
    return (json.loads(line)["text"] for line in lines)
