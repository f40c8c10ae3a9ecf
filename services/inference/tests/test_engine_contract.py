"""What every engine promises: the one in memory, and Triton. Both repeat the words of the prompt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.adapters.triton.engine import TritonEngine
from farthing_inference.adapters.triton.probe import TritonProbe
from farthing_inference.adapters.triton.stream import Patience
from farthing_inference.domain.errors import ModelNotLoaded, ServerFailure, ServerUnreachable
from farthing_inference.domain.generation import FinishReason, Progress, Sampling
from farthing_inference.domain.pools import Placement, ServerAddress
from farthing_inference.ports import Engine, Probe
from farthing_kit.clock import SystemClock
from farthing_kit.errors import DeadlineExceeded
from farthing_kit.local.process import free_port
from farthing_kit.telemetry import Telemetry
from services.inference.tests.builders import model, placement
from services.inference.tests.fakes import EchoEngine, EchoProbe, EchoServer

# The slow model runs this many at once; it says a word every 50 ms.
SLOTS = 8
LONG = " ".join(["word"] * 400)


@dataclass
class Subject:
    """An engine and a probe under test, with a server that works and one that is not there."""

    engine: Engine
    probe: Probe
    here: ServerAddress
    nowhere: ServerAddress
    adapter: str = "vllm"

    def at(self, name: str = "echo", server: ServerAddress | None = None) -> Placement:
        return placement(server or self.here, model(name, adapter=self.adapter))

    async def run(self, prompt: str, *, limit: int = 256, where: Placement | None = None) -> list[Progress]:
        stream = self.engine.generate(where or self.at(), prompt, Sampling(limit), 5.0)
        return [progress async for progress in stream]

    async def first(self, where: Placement, timeout_s: float = 5.0) -> None:
        """Start a long generation, read its first progress, and close it."""
        stream = self.engine.generate(where, LONG, Sampling(400), timeout_s)
        await anext(stream)
        await stream.aclose()


@pytest.fixture(params=["memory", "vllm", "farthing"])
def adapter(request: pytest.FixtureRequest) -> str:
    """The engine in memory, or how a real Triton is spoken to."""
    return str(request.param)


@pytest.fixture
def real_server(adapter: str, request: pytest.FixtureRequest) -> ServerAddress | None:
    """The address of a real Triton, or None for the engine in memory."""
    return None if adapter == "memory" else ServerAddress(request.getfixturevalue("triton").address)


@pytest.fixture
async def subject(adapter: str, real_server: ServerAddress | None) -> AsyncIterator[Subject]:
    if real_server is None:
        memory = EchoEngine(lambda: EchoServer(missing={"nothing"}, slow={"echo-slow"}, slots=SLOTS))
        memory.servers[ServerAddress("nowhere:1")].up = False
        yield Subject(memory, EchoProbe(memory), ServerAddress("here:1"), ServerAddress("nowhere:1"))
        return
    channels = Channels()
    engine = TritonEngine(channels, Telemetry("test"), clock=SystemClock(), patience=Patience())
    nowhere = ServerAddress(f"127.0.0.1:{free_port()}")
    yield Subject(engine, TritonProbe(channels, timeout_s=2.0), real_server, nowhere, adapter)
    await engine.close()
    await channels.close()


@pytest.mark.parametrize("prompt", ["hello", "to be or not to be", "naïve 日本語 🦆🦆 e\u0301"])
async def test_the_texts_joined_are_the_answer(subject: Subject, prompt: str) -> None:
    progress = await subject.run(prompt)
    assert "".join(item.text for item in progress) == prompt


async def test_only_the_last_progress_has_the_reason(subject: Subject) -> None:
    progress = await subject.run("a b c")
    assert [item.finish for item in progress] == [None] * (len(progress) - 1) + [FinishReason.STOP]


async def test_counts_are_exact_and_never_fall(subject: Subject) -> None:
    progress = await subject.run("a b c d e")
    counts = [item.output_tokens for item in progress]
    assert counts == sorted(counts)
    assert counts[-1] == 5
    assert {item.input_tokens for item in progress} == {5}


async def test_the_output_limit_ends_the_answer_with_length(subject: Subject) -> None:
    progress = await subject.run("a b c d e", limit=2)
    assert (progress[-1].finish, progress[-1].output_tokens) == (FinishReason.LENGTH, 2)
    assert "".join(item.text for item in progress) == "a b"


async def test_many_at_once_each_get_their_own_answer(subject: Subject) -> None:
    prompts = [f"prompt number {number}" for number in range(16)]
    answers = await asyncio.gather(*(subject.run(prompt) for prompt in prompts))
    assert ["".join(item.text for item in answer) for answer in answers] == prompts


async def test_a_model_that_the_server_does_not_have_is_not_loaded(subject: Subject) -> None:
    with pytest.raises(ModelNotLoaded):
        await subject.run("x", where=subject.at("nothing"))


async def test_a_server_that_is_not_there_is_unreachable(subject: Subject) -> None:
    with pytest.raises(ServerUnreachable):
        await subject.run("x", where=subject.at(server=subject.nowhere))


async def test_closing_gives_the_place_in_the_model_back(subject: Subject) -> None:
    """All places of the slow model are taken for 20 s, and closed at once: twice over, each starts without waiting."""
    slow = subject.at("echo-slow")
    for _ in range(2):
        async with asyncio.timeout(3.0):
            await asyncio.gather(*(subject.first(slow) for _ in range(SLOTS)))


async def test_cancelling_the_reader_gives_the_place_in_the_model_back(subject: Subject) -> None:
    slow = subject.at("echo-slow")
    started = asyncio.Semaphore(0)

    async def read() -> None:
        async for _ in subject.engine.generate(slow, LONG, Sampling(400), 30.0):
            started.release()

    readers = [asyncio.create_task(read()) for _ in range(SLOTS)]
    for _ in range(SLOTS):
        await started.acquire()
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)
    async with asyncio.timeout(3.0):
        await asyncio.gather(*(subject.first(slow) for _ in range(SLOTS)))


async def test_the_timeout_bounds_the_whole(subject: Subject) -> None:
    stream = subject.engine.generate(subject.at("echo-slow"), LONG, Sampling(400), 0.3)
    with pytest.raises(DeadlineExceeded):
        async for _ in stream:
            pass


async def test_a_check_finds_the_models_that_are_ready(subject: Subject) -> None:
    assert await subject.probe.ready_models(subject.here, ["echo", "nothing"]) == {"echo"}
    with pytest.raises(ServerFailure):
        await subject.probe.ready_models(subject.nowhere, ["echo"])
