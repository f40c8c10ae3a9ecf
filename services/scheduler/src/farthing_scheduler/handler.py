"""SchedulerService over gRPC."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from farthing.scheduler.v1.scheduler_service_pb2 import (
    GenerateRequest,
    GenerateResponse,
    GetQueuesRequest,
    GetQueuesResponse,
    Queue,
)
from farthing.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceServicer
from farthing_kit import deadline
from farthing_kit.context import RequestContext, require_context
from farthing_kit.errors import ContextInvalid, InvalidArgument
from farthing_scheduler.app.generate import Generate
from farthing_scheduler.domain.job import Chunk, Event, Started
from farthing_scheduler.domain.subjects import is_model, is_request_id
from farthing_scheduler.ports import JobQueue
from farthing_scheduler.wire import chunk_to_message, finished_to_message, started_to_message

NAME = "farthing.scheduler.v1.SchedulerService"


class SchedulerHandler(SchedulerServiceServicer):
    """Validates, translates, and calls one use case."""

    def __init__(self, generate: Generate, queue: JobQueue, *, max_deadline_s: float) -> None:
        self._generate = generate
        self._queue = queue
        self._max_deadline_s = max_deadline_s

    async def Generate(self, request: GenerateRequest, context: Any) -> AsyncIterator[GenerateResponse]:
        caller = _valid_caller(require_context())
        _validate(request)
        left_s = deadline.remaining_s()
        within_s = self._max_deadline_s if left_s is None else min(left_s, self._max_deadline_s)
        async with aclosing(self._generate.run(caller, request, within_s)) as events:
            async for event in events:
                yield _to_message(event)

    async def GetQueues(self, request: GetQueuesRequest, context: Any) -> GetQueuesResponse:
        states = await self._queue.states()
        return GetQueuesResponse(
            queues=[Queue(model=state.model, waiting=state.waiting, running=state.running) for state in states]
        )


def _valid_caller(caller: RequestContext) -> RequestContext:
    if not is_request_id(caller.request_id):
        raise ContextInvalid(
            "the request id must be 1 to 128 letters, digits, _ and -", metadata={"cause": "request_id"}
        )
    return caller


def _validate(request: GenerateRequest) -> None:
    if not is_model(request.model):
        raise InvalidArgument.field("model", "is empty or no name, must be 1 to 128 printable characters")
    if not request.messages:
        raise InvalidArgument.field("messages", "is empty, must hold at least one message")
    if request.sampling.max_output_tokens < 1:
        raise InvalidArgument.field("sampling.max_output_tokens", "is not set, must be 1 or more")
    if not request.charge.HasField("quote"):
        raise InvalidArgument.field("charge.quote", "is not set, must hold the prices of the request")


def _to_message(event: Event) -> GenerateResponse:
    match event:
        case Chunk():
            return GenerateResponse(chunk=chunk_to_message(event))
        case Started():
            return GenerateResponse(started=started_to_message(event))
        case _:
            return GenerateResponse(finished=finished_to_message(event))
