"""Texts that come while the encoder is busy are joined; nobody waits for company, and who leaves costs no pass."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np
import pytest

from farthing_classifier.app.passes import Passes
from farthing_classifier.ports import Encoded, Reading
from services.classifier.tests.fakes import FakeEncoder

Make = Callable[..., Passes]


class CountingEncoder(FakeEncoder):
    """Notes what it reads at once, and what passes, whether alone."""

    def __init__(self, gate: threading.Event | None = None) -> None:
        super().__init__(gate=gate)
        self.read_at_once: list[int] = []
        self.passes: list[tuple[int, bool]] = []

    def read(self, texts: Sequence[str]) -> list[Reading]:
        self.read_at_once.append(len(texts))
        return super().read(texts)

    def embed(self, reading: Reading, *, alone: bool) -> Encoded:
        self.passes.append((len(reading.ids), alone))
        return super().embed(reading, alone=alone)


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    made: list[Passes] = []

    def build(encoder: FakeEncoder, lanes: int = 1, max_batch: int = 8) -> Passes:
        made.append(Passes(encoder, lanes=lanes, max_batch=max_batch))
        return made[-1]

    yield build
    for passes in made:
        await passes.close()


async def begun(encoder: FakeEncoder) -> None:
    assert await asyncio.to_thread(encoder.begun.acquire, timeout=10)


async def busy(passes: Passes, encoder: CountingEncoder) -> asyncio.Future[object]:
    first: asyncio.Future[object] = asyncio.ensure_future(passes.encode("the first one"))
    await begun(encoder)
    return first


async def test_a_lonely_text_passes_at_once_with_all_threads(make: Make) -> None:
    encoder = CountingEncoder()
    await make(encoder, lanes=2).encode("hello there")
    assert encoder.passes == [(2, True)]


async def test_what_comes_while_the_lane_is_busy_is_read_at_once_and_passes_shortest_first(make: Make) -> None:
    gate = threading.Event()
    encoder = CountingEncoder(gate)
    passes = make(encoder)
    first = await busy(passes, encoder)
    others = [asyncio.ensure_future(passes.encode(text)) for text in ("a b c d", "a b", "a b c")]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert encoder.read_at_once == [1, 3]
    assert encoder.passes[1:] == [(2, False), (3, False), (4, False)]


async def test_a_batch_has_a_limit(make: Make) -> None:
    gate = threading.Event()
    encoder = CountingEncoder(gate)
    passes = make(encoder, max_batch=2)
    first = await busy(passes, encoder)
    others = [asyncio.ensure_future(passes.encode(f"text {number}")) for number in range(5)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, *others)
    assert encoder.read_at_once == [1, 2, 2, 1]


async def test_a_free_lane_leaves_the_others_their_part(make: Make) -> None:
    gate = threading.Event()
    encoder = CountingEncoder(gate)
    passes = make(encoder, lanes=2)
    running = [await busy(passes, encoder), await busy(passes, encoder)]
    others = [asyncio.ensure_future(passes.encode(f"text {number}")) for number in range(6)]
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*running, *others)
    assert encoder.read_at_once[:2] == [1, 1]
    assert max(encoder.read_at_once) <= 3


async def test_equal_texts_share_a_pass(make: Make) -> None:
    gate = threading.Event()
    encoder = CountingEncoder(gate)
    passes = make(encoder)
    first = await busy(passes, encoder)
    same = [asyncio.ensure_future(passes.encode("the same")) for _ in range(4)]
    await asyncio.sleep(0)
    gate.set()
    await first
    results = await asyncio.gather(*same)
    assert len(encoder.passes) == 2
    assert all(result is results[0] for result in results)


async def test_who_leaves_before_the_batch_begins_costs_no_pass(make: Make) -> None:
    gate = threading.Event()
    encoder = CountingEncoder(gate)
    passes = make(encoder)
    first = await busy(passes, encoder)
    leaving = asyncio.ensure_future(passes.encode("gone"))
    staying = asyncio.ensure_future(passes.encode("still here"))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(first, staying)
    assert encoder.read_at_once == [1, 1]
    assert leaving.cancelled()


async def test_who_leaves_while_the_batch_runs_costs_no_pass(make: Make) -> None:
    gates = [threading.Event(), threading.Event()]

    class Stepping(CountingEncoder):
        def embed(self, reading: Reading, *, alone: bool) -> Encoded:
            step = len(self.passes)
            made = super().embed(reading, alone=alone)
            if step < 2:
                gates[step].wait(timeout=10)
            return made

    encoder = Stepping()
    passes = make(encoder)
    first = await busy(passes, encoder)
    texts = ("b b", "c c c")
    second, leaving = (asyncio.ensure_future(passes.encode(text)) for text in texts)
    await asyncio.sleep(0)
    gates[0].set()
    await begun(encoder)
    leaving.cancel()
    await asyncio.sleep(0)
    gates[1].set()
    await asyncio.gather(first, second)
    await passes.close()
    assert len(encoder.passes) == 2


async def test_a_failure_reaches_those_who_waited_for_it_and_the_lane_goes_on(make: Make) -> None:
    class Failing(CountingEncoder):
        def read(self, texts: Sequence[str]) -> list[Reading]:
            if "bad" in texts:
                raise RuntimeError("broken")
            return super().read(texts)

    passes = make(Failing())
    with pytest.raises(RuntimeError, match="broken"):
        await passes.encode("bad")
    assert (await passes.encode("good")).prompt_tokens == 4


async def test_many_at_once_get_what_each_would_get_alone(make: Make) -> None:
    passes = make(FakeEncoder(), lanes=2, max_batch=4)
    texts = [f"text number {number} " * (number % 5 + 1) for number in range(40)]
    together = await asyncio.gather(*(passes.encode(text) for text in texts))
    for text, encoded in zip(texts, together, strict=True):
        np.testing.assert_array_equal(encoded.embedding, FakeEncoder().encode(text).embedding)
