"""Passes of the encoder on worker threads. What comes while all are busy is joined: nobody waits for company."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from farthing_classifier.ports import Encoded, Encoder, Reading


@dataclass(slots=True, eq=False)
class _Wanted:
    """A text that somebody waits for."""

    text: str
    result: asyncio.Future[Encoded]


@dataclass(slots=True, eq=False)
class _Batch:
    """What one worker takes at once: equal texts are one."""

    wanted: dict[str, list[_Wanted]] = field(default_factory=dict)

    def add(self, one: _Wanted) -> None:
        self.wanted.setdefault(one.text, []).append(one)

    def is_wanted(self, text: str) -> bool:
        return any(not one.result.done() for one in self.wanted[text])


class Passes:
    """At most `lanes` batches of at most `max_batch` texts at once.

    A free lane takes what waits at once, and leaves the other lanes their part. In a batch texts are tokenized
    together and pass the encoder one after the other, short ones first: the INT8 encoder's scale is that of a whole
    tensor, so in one tensor a text's neighbours would change its embedding. A caller who goes away drops out, before
    and while the batch runs.
    """

    def __init__(
        self, encoder: Encoder, *, lanes: int, max_batch: int, passed: Callable[[int], None] = lambda prompts: None
    ) -> None:
        self._encoder = encoder
        self._lanes = lanes
        self._max_batch = max_batch
        self._passed = passed
        self._waiting: deque[_Wanted] = deque()
        self._running: set[asyncio.Future[None]] = set()
        self._pool = ThreadPoolExecutor(lanes, thread_name_prefix="encoder")

    async def encode(self, text: str) -> Encoded:
        """The meaning of a text."""
        wanted = _Wanted(text, asyncio.get_running_loop().create_future())
        self._waiting.append(wanted)
        self._fill()
        return await wanted.result

    async def close(self) -> None:
        """Finish the batches that run, and drop the rest."""
        for wanted in self._waiting:
            wanted.result.cancel()
        self._waiting.clear()
        await asyncio.to_thread(self._pool.shutdown, cancel_futures=True)

    def _fill(self) -> None:
        while len(self._running) < self._lanes and (batch := self._take()).wanted:
            alone = not self._running and not self._waiting and len(batch.wanted) == 1
            loop = asyncio.get_running_loop()
            running = loop.run_in_executor(self._pool, self._run, batch, alone, loop)
            self._running.add(running)
            running.add_done_callback(self._over(batch))

    def _take(self) -> _Batch:
        batch = _Batch()
        share = min(self._max_batch, -(-len(self._waiting) // self._lanes))
        taken = 0
        while self._waiting and taken < share:
            wanted = self._waiting.popleft()
            if not wanted.result.done():
                batch.add(wanted)
                taken += 1
        if taken:
            self._passed(taken)
        return batch

    def _over(self, batch: _Batch) -> Callable[[asyncio.Future[None]], None]:
        """What failed, fails for those who waited for it; the lane is free again."""

        def over(running: asyncio.Future[None]) -> None:
            self._running.discard(running)
            error = None if running.cancelled() else running.exception()
            for wanted in (one for same in batch.wanted.values() for one in same if not one.result.done()):
                if error is not None:
                    wanted.result.set_exception(error)
                else:
                    wanted.result.cancel()
            self._fill()

        return over

    def _run(self, batch: _Batch, alone: bool, loop: asyncio.AbstractEventLoop) -> None:
        """On a worker thread."""
        texts = [text for text in batch.wanted if batch.is_wanted(text)]
        for text, reading in _shortest_first(texts, self._encoder.read(texts)):
            if batch.is_wanted(text):
                encoded = self._encoder.embed(reading, alone=alone)
                loop.call_soon_threadsafe(_hand_over, batch.wanted[text], encoded)


def _shortest_first(texts: Sequence[str], readings: Sequence[Reading]) -> list[tuple[str, Reading]]:
    return sorted(zip(texts, readings, strict=True), key=lambda pair: len(pair[1].ids))


def _hand_over(waiting: Sequence[_Wanted], encoded: Encoded) -> None:
    for wanted in waiting:
        if not wanted.result.done():
            wanted.result.set_result(encoded)
