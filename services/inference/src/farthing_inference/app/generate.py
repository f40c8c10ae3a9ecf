"""Runs one generation: a server is found, another one if it fails before the first token, and all is counted."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Iterator
from dataclasses import dataclass

from farthing_inference.app.places import Places
from farthing_inference.app.run import Run
from farthing_inference.domain.errors import (
    EmptyPrompt,
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

# Of connections that break. A server that does not do a job is replaced once.
MAX_ATTEMPTS = 3
PAUSE_S = 0.25


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
        places: Places,
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
        self._places = places
        self._engine = engine
        self._templates = templates
        self._meter = meter
        self._clock = clock
        self._log = log
        self._limits = limits
        self._suspect = suspect

    async def __call__(self, generation: Generation) -> AsyncGenerator[Event, None]:
        """Started, then Chunks, then Finished. Until there is a token, a server that fails is replaced, unseen but for
        a Started that names another pool. Closing the generator stops the model."""
        check(generation, self._limits.max_prompt_bytes)
        attempts, said = Attempts(), Said()
        while True:
            run = self._run_on(await self._place(generation.model, attempts), generation)
            try:
                async for progress in run:
                    for event in said.events(run.placement, progress):
                        yield event
                return
            except ServerFailure as failure:
                self._note(run.placement, failure)
                if said.tokens:
                    raise GenerationLost(generation.model) from failure
                attempts.failed(run.placement, failure)
            finally:
                await run.close()

    async def _place(self, model: str, attempts: Attempts) -> Placement:
        """A server for the next attempt. What failed may be back in a moment; what did not do this one job is avoided,
        and nobody waits for another."""
        last = attempts.last
        if last is None:
            return await self._places.find(model)
        if attempts.are_enough:
            raise _final(model, last) from last
        try:
            if attempts.avoid:
                return self._fleet.choose(model, attempts.avoid)
            await self._clock.sleep(attempts.pause_s)
            return await self._places.find(model)
        except (ModelUnavailable, ModelFull):
            raise _final(model, last) from last

    def _run_on(self, placement: Placement, generation: Generation) -> Run:
        check_size(generation.messages, placement.model.context_tokens * MAX_BYTES_PER_TOKEN)
        prompt = self._templates.render(placement.model, generation.messages)
        if not prompt:
            raise EmptyPrompt
        sampling = generation.sampling.also_stopping_at(placement.model.stop)
        stream = self._engine.generate(placement, prompt, sampling, self._time_left_s())
        return Run(placement, stream, self._fleet, self._meter, self._clock)

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


class Said:
    """What the caller was told of one generation, over all attempts."""

    def __init__(self) -> None:
        self.tokens = 0
        self._started: Started | None = None
        self._input_tokens = 0

    def events(self, placement: Placement, progress: Progress) -> Iterator[Event]:
        """What is new. A progress without text still counts: the prompt, and tokens that are hidden, are charged for
        too. Of a second attempt's prompt only what exceeds the first one's."""
        started = Started(placement.pool.name, placement.model.quantization)
        if started != self._started:
            self._started = started
            yield started
        self.tokens = progress.output_tokens
        if progress.text or (progress.finish is None and (self.tokens or progress.input_tokens > self._input_tokens)):
            self._input_tokens = max(self._input_tokens, progress.input_tokens)
            yield Chunk(progress.text, self._input_tokens, self.tokens)
        if progress.finish is not None:
            yield Finished(progress.finish, progress.usage, progress.mean_token_logprob)


class Attempts:
    """What was tried for one generation, and what may be tried yet."""

    def __init__(self) -> None:
        self.last: ServerFailure | None = None
        self.avoid: set[ServerAddress] = set()
        self._count = 0

    def failed(self, placement: Placement, failure: ServerFailure) -> None:
        """An attempt has failed."""
        self._count += 1
        self.last = failure
        if not failure.mends:
            self.avoid.add(placement.server)

    @property
    def are_enough(self) -> bool:
        """Another one would only add waiting to an outage, or take down the next server with the same prompt."""
        return self._count >= (MAX_ATTEMPTS if not self.avoid else 2)

    @property
    def pause_s(self) -> float:
        """Before the next: a server that is shutting down may answer a check yet."""
        return PAUSE_S * (self._count - 1)


def _final(model: str, failure: ServerFailure) -> FarthingError:
    return ModelFull(model) if isinstance(failure, ServerFull) else ModelUnavailable(model)
