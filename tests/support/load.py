"""A steady load of repeated questions on a gateway, and what became of each request."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from farthing.type.v1 import model_pb2
from farthing_cli.generation import Gateway
from farthing_kit.errors import FarthingError
from tests.support.mesh import prompt

CALLERS = 4


@dataclass(frozen=True)
class Asked:
    """One request: when it ended, how long it took, why it was not answered, or not rightly, and if from a cache."""

    ended_s: float
    took_s: float
    fault: str = ""
    hit: bool = False


@dataclass
class Load:
    """Callers that ask the same questions over and over, each its next as soon as it has an answer."""

    gateway: Gateway
    questions: Sequence[str]
    asked: list[Asked] = field(default_factory=list)
    news: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def running(self, callers: int = CALLERS, pause_s: float = 0.0) -> AsyncIterator[None]:
        """Ask, as long as the block lasts; requests under way at its end are waited for."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for caller in range(callers):
                group.create_task(self._ask_on(caller, over, pause_s))
            try:
                yield
            finally:
                over.set()

    async def more(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        until = len(self.asked) + count
        async with self.news:
            await self.news.wait_for(lambda: len(self.asked) >= until)

    async def hits_again(self) -> None:
        """Wait until as many requests in a row as there are questions, asked from now on, were hits."""
        since = len(self.asked)
        async with self.news:
            await self.news.wait_for(lambda: self._all_hits(since))

    @property
    def faults(self) -> list[str]:
        """Why requests had no answer, or that it was a wrong one."""
        return [one.fault for one in self.asked if one.fault]

    def _all_hits(self, since: int) -> bool:
        latest = self.asked[since:][-len(self.questions) :]
        return len(latest) == len(self.questions) and all(one.hit for one in latest)

    async def _ask_on(self, caller: int, over: asyncio.Event, pause_s: float) -> None:
        number = caller
        while not over.is_set():
            one = await self._ask(self.questions[number % len(self.questions)])
            number += 1
            async with self.news:
                self.asked.append(one)
                self.news.notify_all()
            await asyncio.sleep(pause_s)

    async def _ask(self, question: str) -> Asked:
        started = time.monotonic()
        try:
            answer = await self.gateway.ask(prompt(question))
        except FarthingError as error:
            return Asked(time.monotonic(), time.monotonic() - started, f"{error.reason_name} {error.metadata}")
        ended = time.monotonic()
        hit = answer.decision.cache_level != model_pb2.CACHE_LEVEL_NONE
        return Asked(ended, ended - started, "" if answer.text == question else "another answer", hit)
