"""Inference over gRPC: where jobs run, and which models there are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from farthing.inference.v1.inference_service_pb2 import GenerateRequest, GenerateResponse, ListPoolsRequest
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing_kit.client import UNBOUNDED
from farthing_kit.clock import Clock
from farthing_kit.context import service_context, use_context
from farthing_kit.errors import FarthingError, InternalError, Unavailable
from farthing_kit.telemetry import logs
from farthing_scheduler.domain import errors
from farthing_scheduler.domain.job import Event, Job, Started
from farthing_scheduler.wire import chunk_from_message, finished_from_message

LIST_TIMEOUT_S: Final = 2.0
# While inference has never answered, it is asked more often.
FIRST_INTERVAL_S: Final = 0.25
# An unknown model makes the list be read again, at most this often.
REFRESH_MIN_S: Final = 0.5

_log = logs.get("scheduler.inference")


class InferenceEngine:
    """Runs jobs through InferenceService.Generate, within what is left of the job's time."""

    def __init__(self, stub: InferenceServiceStub) -> None:
        self._stub = stub

    @asynccontextmanager
    async def generate(self, job: Job) -> AsyncIterator[AsyncIterator[Event]]:
        asked = job.request
        request = GenerateRequest(
            model=asked.model,
            messages=asked.messages,
            sampling=asked.sampling,
            return_mean_token_logprob=asked.return_mean_token_logprob,
        )
        call: Any = self._stub.Generate(request, timeout=UNBOUNDED)
        async with call:
            yield _Events(call, job.model)


class _Events:
    """The messages of a call as events."""

    def __init__(self, call: Any, model: str) -> None:
        self._messages = call.__aiter__()
        self._model = model

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> Event:
        try:
            return _event(await self._messages.__anext__())
        except Unavailable:
            raise errors.inference_unavailable(self._model) from None


def _event(message: GenerateResponse) -> Event:
    match message.WhichOneof("event"):
        case "chunk":
            return chunk_from_message(message.chunk)
        case "started":
            return Started(message.started.pool, message.started.quantization)
        case "finished":
            return finished_from_message(message.finished)
    raise InternalError("internal")


class InferenceModels:
    """The names of the models that the pools serve, kept up to date."""

    def __init__(self, stub: InferenceServiceStub, clock: Clock, *, interval_s: float) -> None:
        self._stub = stub
        self._clock = clock
        self._interval_s = interval_s
        self._identity = service_context("scheduler")
        self._names: frozenset[str] | None = None
        self._asked_s = -REFRESH_MIN_S
        self._refreshing = asyncio.Lock()
        self._has_warned = False

    async def watch(self, changed: Callable[[list[str]], Awaitable[None]]) -> None:
        """Ask again and again, and tell of the models after each answer."""
        while True:
            await self.refresh()
            if self._names is not None:
                await changed(sorted(self._names))
            await self._clock.sleep(FIRST_INTERVAL_S if self._names is None else self._interval_s)

    async def require(self, model: str) -> None:
        if not self._has(model):
            await self.refresh()
        if self._names is None:
            raise errors.models_unknown(model)
        if not self._has(model):
            raise errors.unknown_model(model)

    async def refresh(self) -> None:
        """Read the list, unless that was done a moment ago. When inference does not answer, the last one stands."""
        async with self._refreshing:
            if self._clock.monotonic() - self._asked_s < REFRESH_MIN_S:
                return
            self._asked_s = self._clock.monotonic()
            try:
                with use_context(self._identity):
                    pools = (await self._stub.ListPools(ListPoolsRequest(), timeout=LIST_TIMEOUT_S)).pools
            except FarthingError as error:
                self._warn(error)
                return
            self._has_warned = False
            self._names = frozenset(model.name for pool in pools for model in pool.models)

    def _warn(self, error: FarthingError) -> None:
        """Once for each outage."""
        if not self._has_warned:
            _log.warning("inference does not say which models there are; trying again", reason=error.reason_name)
        self._has_warned = True

    def _has(self, model: str) -> bool:
        return self._names is not None and model in self._names
