"""Callers that keep asking: each request is repeated under its idempotency key until it is answered."""

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing_cli.generation import Gateway
from farthing_kit.errors import FarthingError
from tests.support.mesh import prompt

TRY_S = 30.0
LONGEST_PAUSE_S = 0.5
WORDS = 6
# Of ten requests: how many are new to the mesh, how many stream slowly, how many were asked before.
KINDS = ("new",) * 6 + ("slow",) * 2 + ("again",) * 2
REPEATED = 5


@dataclass(frozen=True)
class Told:
    """What a caller was told about a request that was answered."""

    request_id: str
    cost_nanos: int
    right: bool


@dataclass
class Callers:
    """So many at a time, each its next request as soon as the last one is answered."""

    gateways: Sequence[Gateway]
    at_once: int
    seed: int
    told: list[Told] = field(default_factory=list)
    failures: dict[str, int] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Ask while the block lasts, and until every request that was begun is answered."""
        over = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            for number in range(self.at_once):
                group.create_task(self._ask_on(self.gateways[number % len(self.gateways)], over.is_set))
            try:
                yield
            finally:
                over.set()

    async def _ask_on(self, gateway: Gateway, is_over: Callable[[], bool]) -> None:
        while not is_over():
            self.told.append(await self._answered(gateway, next(self._numbers)))

    async def _answered(self, gateway: Gateway, number: int) -> Told:
        asked, text = self._prompt(number)
        while True:
            try:
                async with asyncio.timeout(TRY_S):
                    answer = await gateway.ask(asked)
                return Told(answer.decision.request_id, answer.final.cost.nano_units, text.startswith(answer.text))
            except FarthingError as error:
                self._failed(error.reason_name)
                await asyncio.sleep(min(error.retry_after_s or 0.1, LONGEST_PAUSE_S))
            except TimeoutError:
                self._failed("no answer in time")

    def _failed(self, why: str) -> None:
        self.failures[why] = self.failures.get(why, 0) + 1

    def _prompt(self, number: int) -> tuple[pb.Prompt, str]:
        """The request of a number, and the text that the model says again."""
        dice = random.Random(f"{self.seed} {number}")
        kind = dice.choice(KINDS)
        subject = dice.randrange(REPEATED) if kind == "again" else number
        text = " ".join(f"{kind} {subject} word {word}" for word in range(WORDS if kind == "slow" else 4))
        model = "echo-slow" if kind == "slow" else "echo"
        asked = prompt(text, model=model, max_tokens=256, no_cache=kind != "again")
        asked.idempotency_key = f"chaos {self.seed} {number}"
        return asked, text
