"""Runs one generation: a server is chosen, one more is tried if it fails before the first token, and all is counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from farthing_inference.app.run import Run
from farthing_inference.domain.errors import (
    GenerationLost,
    ModelFull,
    ModelNotLoaded,
    ModelUnavailable,
    ServerFailure,
    ServerFull,
    ServerStalled,
    ServerUnreachable,
)
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.generation import (
    MAX_BYTES_PER_TOKEN,
    Chunk,
    Event,
    Finished,
    Generation,
    Progress,
    Started,
    check,
    check_size,
)
from farthing_inference.domain.pools import Placement, ServerAddress
from farthing_inference.ports import Engine, Meter, Templates
from farthing_kit import deadline
from farthing_kit.clock import Clock
from farthing_kit.errors import DeadlineTooShort, FarthingError
from farthing_kit.telemetry import Log


@dataclass(frozen=True, slots=True)
class Limits:
    """What one generation may take."""

    max_prompt_bytes: int = 1024 * 1024
    timeout_s: float = 600.0


class Generate:
    """The use case of InferenceService.Generate. `suspect` hears of each server that failed, to have it checked."""

    def __init__(
        self,
        fleet: Fleet,
        engine: Engine,
        templates: Templates,
        meter: Meter,
        *,
        clock: Clock,
        log: Log,
        limits: Limits,
        suspect: Callable[[ServerAddress], None],
    ) -> None:
        self._fleet = fleet
        self._engine = engine
        self._templates = templates
        self._meter = meter
        self._clock = clock
        self._log = log
        self._limits = limits
        self._suspect = suspect

    async def __call__(self, generation: Generation) -> AsyncGenerator[Event, None]:
        """Started, then Chunks, then Finished. Started waits for the model's first sign of life, so that a second try
        elsewhere goes unseen. Closing the generator stops the model."""
        check(generation, self._limits.max_prompt_bytes)
        run = await self._start(generation)
        try:
            yield Started(run.placement.pool.name, run.placement.model.quantization)
            async for progress in run:
                for event in _events(progress):
                    yield event
        except ServerFailure as failure:
            self._note(run.placement, failure)
            raise GenerationLost(generation.model) from failure
        finally:
            await run.close()

    async def _start(self, generation: Generation) -> Run:
        """A run that has shown its first progress: on the best server, else on the next best. A third try would only
        add waiting to an outage."""
        placement = self._fleet.choose(generation.model)
        try:
            return await self._run_on(placement, generation)
        except ServerFailure as failure:
            self._note(placement, failure)
            other = self._other_than(placement, failure)
        try:
            return await self._run_on(other, generation)
        except ServerFailure as failure:
            self._note(other, failure)
            raise _final(other, failure) from failure

    def _other_than(self, failed: Placement, failure: ServerFailure) -> Placement:
        try:
            return self._fleet.choose(failed.model.name, avoid={failed.server})
        except (ModelUnavailable, ModelFull):
            raise _final(failed, failure) from failure

    async def _run_on(self, placement: Placement, generation: Generation) -> Run:
        check_size(generation.messages, placement.model.context_tokens * MAX_BYTES_PER_TOKEN)
        prompt = self._templates.render(placement.model, generation.messages)
        sampling = generation.sampling.also_stopping_at(placement.model.stop)
        stream = self._engine.generate(placement, prompt, sampling, self._time_left_s())
        run = Run(placement, stream, self._fleet, self._meter, self._clock)
        await run.first()
        return run

    def _time_left_s(self) -> float:
        left = deadline.remaining_s()
        if left is None:
            return self._limits.timeout_s
        if left <= deadline.MARGIN_S:
            raise DeadlineTooShort("too little time is left to start the model; allow more", metadata={})
        return min(left - deadline.MARGIN_S, self._limits.timeout_s)

    def _note(self, placement: Placement, failure: ServerFailure) -> None:
        """Take what a failure says about the server into account at once; the next check may put it right."""
        server, model = placement.server, placement.model.name
        self._log.warning("a server failed", server=server, pool=placement.pool.name, model=model, cause=failure.cause)
        if isinstance(failure, ServerUnreachable):
            self._fleet.refused(server)
        elif isinstance(failure, ServerStalled):
            self._fleet.failed(server)
        elif isinstance(failure, ModelNotLoaded):
            self._fleet.lost_model(placement)
        else:
            return
        self._suspect(server)


def _events(progress: Progress) -> Iterator[Event]:
    """A progress without text still counts: hidden tokens are charged for too."""
    if progress.text or progress.finish is None:
        yield Chunk(progress.text, progress.input_tokens, progress.output_tokens)
    if progress.finish is not None:
        yield Finished(progress.finish, progress.usage, progress.mean_token_logprob)


def _final(placement: Placement, failure: ServerFailure) -> FarthingError:
    name = placement.model.name
    return ModelFull(name) if isinstance(failure, ServerFull) else ModelUnavailable(name)
