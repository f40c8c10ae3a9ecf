"""An inference service for tests: says the words of the prompt, and does what some of them tell it."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from typing import Any

from farthing.inference.v1.inference_service_pb2 import (
    GenerateRequest,
    GenerateResponse,
    ListPoolsRequest,
    ListPoolsResponse,
    Pool,
    PoolModel,
    SetPoolStateRequest,
    SetPoolStateResponse,
    Started,
)
from farthing.inference.v1.inference_service_pb2_grpc import (
    InferenceServiceServicer,
    add_InferenceServiceServicer_to_server,
)
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.generation_pb2 import GenerationChunk, GenerationFinished
from farthing.type.v1.model_pb2 import FinishReason
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_kit import deadline
from farthing_kit.context import require_context
from farthing_kit.errors import DeadlineExceeded, FarthingError, NotFound
from farthing_kit.server import Service

WAIT_S = 10.0
LOGPROB = -0.25
LONG_WORD = "x" * 8192
NAME = "farthing.inference.v1.InferenceService"


class FakeInference(InferenceServiceServicer):
    """Each word of the last message is one chunk of one token, but:

    "|gate" waits until the test opens the gate, "!" fails with MODEL_UNAVAILABLE, "!late" as a deadline that passed,
    "~" tells that the prompt is being read, without text, "*n" says n words, "#n" n long ones.
    """

    def __init__(self, *models: str) -> None:
        self.models = list(models)
        self.calls = 0
        self.cancelled: list[str] = []
        self.finished: list[str] = []
        self.deadlines: list[float] = []
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._waiting: defaultdict[str, int] = defaultdict(int)
        self._changed = asyncio.Condition()

    def open(self, gate: str) -> None:
        """Let through who waits at a gate, and who comes later."""
        self._gates[gate].set()

    async def reached(self, gate: str, count: int = 1) -> None:
        """Wait until so many calls have come to a gate."""
        await self._holds(lambda: self._waiting[gate] >= count)

    async def was_cancelled(self, request_id: str) -> None:
        """Wait until the call of a request was cancelled."""
        await self._holds(lambda: request_id in self.cancelled)

    async def ListPools(self, request: ListPoolsRequest, context: Any) -> ListPoolsResponse:
        models = [PoolModel(name=name) for name in self.models]
        return ListPoolsResponse(pools=[Pool(name="fake", accelerator="CPU", models=models)])

    async def SetPoolState(self, request: SetPoolStateRequest, context: Any) -> SetPoolStateResponse:
        raise NotFound("the fake has one pool and one state")

    async def Generate(self, request: GenerateRequest, context: Any) -> AsyncIterator[GenerateResponse]:
        request_id = require_context().request_id
        self.calls += 1
        self.deadlines.append(deadline.remaining_s() or 0.0)
        try:
            yield GenerateResponse(started=Started(pool="fake", quantization="NONE"))
            count = 0
            async for word in self._words(request.messages[-1].content):
                count += word != ""
                yield GenerateResponse(chunk=GenerationChunk(text=word, output_tokens=count, input_tokens=7))
            logprob = LOGPROB if request.return_mean_token_logprob else None
            yield GenerateResponse(finished=_finished(count, logprob))
            self.finished.append(request_id)
        except (asyncio.CancelledError, GeneratorExit):
            await self._note_cancelled(request_id)
            raise

    async def _holds(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S), self._changed:
            await self._changed.wait_for(condition)

    async def _words(self, script: str) -> AsyncIterator[str]:
        for word in script.split():
            if word == "!":
                raise FarthingError("the model is down", reason=ErrorReason.ERROR_REASON_MODEL_UNAVAILABLE)
            if word == "~":
                yield ""
                continue
            if word == "!late":
                raise DeadlineExceeded("the answer was not complete within the deadline")
            if word.startswith("|"):
                await self._wait_at(word[1:])
            elif word.startswith("*"):
                for number in range(int(word[1:])):
                    yield f"{number} "
            elif word.startswith("#"):
                for _ in range(int(word[1:])):
                    yield LONG_WORD
            else:
                yield f"{word} "

    async def _wait_at(self, gate: str) -> None:
        async with self._changed:
            self._waiting[gate] += 1
            self._changed.notify_all()
        await self._gates[gate].wait()

    async def _note_cancelled(self, request_id: str) -> None:
        async with self._changed:
            self.cancelled.append(request_id)
            self._changed.notify_all()


def _finished(count: int, logprob: float | None) -> GenerationFinished:
    return GenerationFinished(
        finish_reason=FinishReason.FINISH_REASON_STOP,
        usage=TokenUsage(fresh_input_tokens=7, output_tokens=count),
        mean_token_logprob=logprob,
    )


def service(fake: FakeInference) -> Service:
    """The fake, to serve with the kit."""
    return Service(NAME, add_InferenceServiceServicer_to_server, fake)
