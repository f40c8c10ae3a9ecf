import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from farthing_classifier.app.analyzing import Analyzer, ModelMismatch
from farthing_classifier.domain.analysis import Flags, Task
from farthing_classifier.domain.errors import EmptyPrompt, TooManyWaiting
from farthing_classifier.domain.prompt import Message, Role
from services.classifier.tests.fakes import ENCODER, FakeEncoder, FakeHeads, RecordingObserver

Make = Callable[..., Analyzer]


def ask(text: str) -> list[Message]:
    return [Message(Role.USER, text)]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Analyzer] = []

    def build(encoder: FakeEncoder | None = None, max_waiting: int = 4) -> Analyzer:
        analyzer = Analyzer(
            encoder or FakeEncoder(), FakeHeads(), RecordingObserver(), workers=1, max_waiting=max_waiting
        )
        made.append(analyzer)
        return analyzer

    yield build
    for analyzer in made:
        await analyzer.close()


async def test_a_judgement_holds_everything(make: Make) -> None:
    analysis = await make().analyze(ask("tell me about tea and coffee in the morning, please do"))
    assert analysis.task is Task.CHAT
    assert analysis.tasks[0][0] is Task.CHAT
    assert (analysis.expected_output.p50_tokens, analysis.expected_output.p90_tokens) == (55, 148)
    assert len(np.frombuffer(analysis.embedding, dtype="<f4")) == ENCODER.dimension
    assert analysis.prompt_tokens == 12
    assert analysis.flags is Flags.NONE
    assert analysis.model_version == "fake-heads+eeeeeeeeeeee"


@pytest.mark.parametrize("messages", [[], ask(""), ask(" \n")])
async def test_an_empty_prompt_is_refused(make: Make, messages: list[Message]) -> None:
    with pytest.raises(EmptyPrompt):
        await make().analyze(messages)


async def test_flags_say_what_happened(make: Make) -> None:
    analyzer = make()
    assert (await analyzer.analyze(ask("word " * 500))).flags is Flags.TRUNCATED
    assert Flags.NOT_TEXT in (await analyzer.analyze(ask("\x00\x01\x02"))).flags
    assert Flags.UNFAMILIAR_LANGUAGE in (await analyzer.analyze(ask("Какая столица Франции?"))).flags


async def test_what_is_not_judged_counts_as_tokens(make: Make) -> None:
    frame = Message(Role.SYSTEM, "x" * 5_000)
    short, framed = [await make().analyze([*before, *ask("tell me about tea " * 4)]) for before in ([], [frame])]
    assert framed.prompt_tokens > short.prompt_tokens + 500


async def test_the_event_loop_runs_while_the_encoder_works(make: Make) -> None:
    gate = threading.Event()
    encoder = FakeEncoder(gate=gate)
    judging = asyncio.ensure_future(make(encoder).analyze(ask("hello")))
    await asyncio.to_thread(encoder.begun.acquire, timeout=10)
    assert not judging.done()
    gate.set()
    assert (await judging).task is Task.CHAT


async def test_more_prompts_than_may_wait_are_refused(make: Make) -> None:
    gate = threading.Event()
    analyzer = make(FakeEncoder(gate=gate), max_waiting=2)
    waiting = [asyncio.ensure_future(analyzer.analyze(ask("hello"))) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyWaiting) as refused:
        await analyzer.analyze(ask("one too many"))
    assert refused.value.retry_after_s
    gate.set()
    assert len(await asyncio.gather(*waiting)) == 2
    await analyzer.analyze(ask("and now there is room"))


async def test_a_caller_who_leaves_makes_room_and_costs_no_pass(make: Make) -> None:
    gate = threading.Event()
    encoder = FakeEncoder(gate=gate)
    analyzer = make(encoder, max_waiting=2)
    first = asyncio.ensure_future(analyzer.analyze(ask("first")))
    await asyncio.to_thread(encoder.begun.acquire, timeout=10)
    leaving = asyncio.ensure_future(analyzer.analyze(ask("second")))
    await asyncio.sleep(0)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    gate.set()
    await first
    await analyzer.analyze(ask("third"))
    await asyncio.to_thread(encoder.begun.acquire, timeout=10)
    assert not encoder.begun.acquire(blocking=False)


async def test_observers_see_each_judgement_and_no_open_end() -> None:
    observer = RecordingObserver()
    analyzer = Analyzer(FakeEncoder(), FakeHeads(), observer, workers=1, max_waiting=4)
    try:
        analysis = await analyzer.analyze(ask("hello"))
    finally:
        await analyzer.close()
    assert observer.seen == [analysis]
    assert observer.open == 0


def test_heads_of_another_encoder_are_refused() -> None:
    with pytest.raises(ModelMismatch, match="belong to the encoder ffffffffffff"):
        Analyzer(FakeEncoder(), FakeHeads(encoder_sha256="f" * 64), RecordingObserver(), workers=1, max_waiting=4)
