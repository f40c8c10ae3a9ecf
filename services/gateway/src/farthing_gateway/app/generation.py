"""Steps 8 and 9: one generation, from the job to the last token."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from farthing_gateway.app.admissions import Admitted
from farthing_gateway.app.request import Request
from farthing_gateway.domain import costs
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.errors import WorkerLost, worker_lost
from farthing_gateway.domain.events import Decision, Delta, Event, Final
from farthing_gateway.domain.model import CacheLevel, Task
from farthing_gateway.domain.routing import Choice
from farthing_gateway.ports import Chunk, Finished, Job, Progress, Scheduler, Started
from farthing_kit.clock import Clock
from farthing_kit.errors import FarthingError


class Generation:
    """Relays what the scheduler sends, and adds up. `answer` is there when it ended well."""

    def __init__(
        self, request: Request, choice: Choice, analysis: Analysis | None, admitted: Admitted, clock: Clock
    ) -> None:
        self._request = request
        self._choice = choice
        self._analysis = analysis
        self._admitted = admitted
        self._clock = clock
        self._texts: list[str] = []
        self._first_token_s: float | None = None
        self._worker_lost = False
        self.answer: Answer | None = None

    @property
    def nothing_to_charge(self) -> bool:
        """Whether no token was made, or none that will be booked: then nobody else gives the reservation back."""
        return self.answer is None and (self._worker_lost or not self._texts)

    async def events(self, scheduler: Scheduler) -> AsyncGenerator[Event]:
        """What the caller hears. Closing it cancels the call to the scheduler, which stops the model."""
        try:
            async with aclosing(scheduler.generate(self._job())) as progress:
                async for step in progress:
                    yield self._event(step)
                    if self.answer is not None:
                        return
        except FarthingError as error:
            self._worker_lost = error.reason == WorkerLost.reason
            raise
        self._worker_lost = True
        raise worker_lost()

    def _event(self, step: Progress) -> Event:
        match step:
            case Started():
                return self._decision(step)
            case Chunk():
                return self._delta(step)
            case Finished():
                return self._final(step)

    def _decision(self, started: Started) -> Decision:
        model = self._choice.model
        return Decision(
            request_id=self._request.context.request_id,
            cache_level=CacheLevel.NONE,
            tier=model.tier,
            model=model.name,
            quantization=started.quantization or model.quantization,
            explanation=self._choice.explanation,
            pool=started.pool,
            analysis=self._analysis,
            reservation_id=self._admitted.reservation_id,
            reserved=self._admitted.amount if self._admitted.reservation_id else None,
            degradations=tuple(self._request.degradations),
            routing=self._choice.routing,
        )

    def _delta(self, chunk: Chunk) -> Delta:
        if self._first_token_s is None:
            self._first_token_s = self._elapsed_s()
        self._texts.append(chunk.text)
        return Delta(chunk.text)

    def _final(self, finished: Finished) -> Final:
        model, elapsed_s = self._choice.model, self._elapsed_s()
        self.answer = Answer(
            text="".join(self._texts),
            usage=finished.usage,
            tier=model.tier,
            model=model.name,
            quantization=model.quantization,
            created_at=self._clock.now(),
            finish_reason=finished.finish_reason,
        )
        return Final(
            finish_reason=finished.finish_reason,
            usage=finished.usage,
            costs=costs.of_generation(finished.usage, self._admitted.quote),
            time_to_first_token_s=elapsed_s if self._first_token_s is None else self._first_token_s,
            duration_s=elapsed_s,
        )

    def _job(self) -> Job:
        question, model = self._request.question, self._choice.model
        return Job(
            model=model.name,
            messages=question.messages,
            sampling=question.sampling,
            reservation_id=self._admitted.reservation_id,
            quote=self._admitted.quote,
            tier=model.tier,
            task=self._analysis.task if self._analysis else Task.UNSPECIFIED,
            tags=question.tags,
        )

    def _elapsed_s(self) -> float:
        return self._clock.monotonic() - self._request.arrived_s
