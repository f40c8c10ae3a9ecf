"""Steps 7 to 9: a call of a model, from the reservation to the last token; and the answer that is one such call."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

from farthing_gateway.app.admissions import Admissions, Admitted
from farthing_gateway.app.request import Request
from farthing_gateway.domain import costs
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.catalogue import Catalogue, ServedModel
from farthing_gateway.domain.costs import Costs, SupersededCall
from farthing_gateway.domain.errors import worker_lost
from farthing_gateway.domain.estimate import estimate
from farthing_gateway.domain.events import Decision, Delta, Event, Final, ModelCall
from farthing_gateway.domain.judge import Verdict
from farthing_gateway.domain.model import CacheLevel, Task
from farthing_gateway.domain.routing import Choice
from farthing_gateway.ports import Chunk, Finished, Job, Progress, Scheduler, Started
from farthing_kit.charging import Charged, charged_after
from farthing_kit.clock import Clock
from farthing_kit.context import use_context
from farthing_kit.errors import FarthingError
from farthing_kit.usage import TokenUsage


@dataclass(frozen=True, slots=True)
class Work:
    """What a call is about: the request under whose id it runs, the model, and what is known about the prompt.
    `superseded` is the earlier call of a cascade; `wants_logprob` where a judge will ask."""

    request: Request
    model: ServedModel
    analysis: Analysis | None
    superseded: SupersededCall | None = None
    wants_logprob: bool = False

    @property
    def task(self) -> Task:
        """The kind of work."""
        return self.analysis.task if self.analysis is not None else Task.UNSPECIFIED

    @property
    def upper_bound(self) -> TokenUsage:
        """What has to be reserved."""
        question = self.request.question
        return estimate(question.messages, question.sampling.max_output_tokens)


class Call:
    """One call of a model: relays what the scheduler sends, and adds up."""

    def __init__(self, work: Work, admitted: Admitted, calls: Calls) -> None:
        self.work = work
        self.admitted = admitted
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.first_token_s: float | None = None
        self.verdict: Verdict | None = None
        self._calls = calls
        self._texts: list[str] = []
        self._charged: Charged | None = None

    @property
    def text(self) -> str:
        """The answer so far."""
        return "".join(self._texts)

    @property
    def is_free(self) -> bool:
        """Whether nothing of it is charged: no worker began, or the scheduler says so. Otherwise the worker's usage
        event, which settles or voids, ends the reservation."""
        return self.finished is None and (self.started is None or self._charged is Charged.NO)

    @property
    def is_known_free(self) -> bool:
        """Whether the scheduler says so. A worker may have begun without that its word was heard."""
        return self._charged is Charged.NO

    @property
    def costs(self) -> Costs:
        """What a finished call comes to, as the ledger will have it."""
        assert self.finished is not None
        return costs.of_generation(self.finished.usage, self.admitted.quote, self.work.superseded)

    async def steps(self) -> AsyncGenerator[Progress]:
        """What the scheduler sends, up to Finished. Closing it cancels the call, which stops the model."""
        try:
            async with aclosing(self._calls.scheduler.generate(self._job())) as progress:
                while (step := await self._next(progress)) is not None:
                    self._note(step)
                    yield step
                    if self.finished is not None:
                        return
        except FarthingError as error:
            self._charged = charged_after(error)
            raise
        raise worker_lost()

    async def to_the_end(self) -> None:
        """Run without telling anybody."""
        async with aclosing(self.steps()) as steps:
            async for _ in steps:
                pass

    def answer(self) -> Answer:
        """The answer of a finished call."""
        assert self.finished is not None
        model = self.work.model
        return Answer(
            text=self.text,
            usage=self.finished.usage,
            tier=model.tier,
            model=model.name,
            quantization=model.quantization,
            created_at=self._calls.clock.now(),
            finish_reason=self.finished.finish_reason,
        )

    def told(self) -> ModelCall:
        """The finished call as the caller hears of it."""
        assert self.finished is not None
        model = self.work.model
        return ModelCall(self._id, model.name, model.tier, self.finished.usage, self.costs.cost, self.verdict)

    @property
    def _id(self) -> str:
        return self.work.request.context.request_id

    async def _next(self, progress: AsyncGenerator[Progress]) -> Progress | None:
        with use_context(self.work.request.context):
            return await anext(progress, None)

    def _note(self, step: Progress) -> None:
        match step:
            case Started():
                self.started = step
            case Chunk():
                if self.first_token_s is None:
                    self.first_token_s = self._calls.clock.monotonic() - self.work.request.arrived_s
                self._texts.append(step.text)
            case Finished():
                self.finished = step
                # The usage event is the worker's, which saw the tokens; it settles the reservation.
                self._calls.admissions.finished(self.admitted, self.costs.cost)

    def _job(self) -> Job:
        work = self.work
        question = work.request.question
        return Job(
            model=work.model.name,
            messages=question.messages,
            sampling=question.sampling,
            reservation_id=self.admitted.reservation_id,
            quote=self.admitted.quote,
            tier=work.model.tier,
            task=work.task,
            tags=question.tags,
            attempt=work.request.attempt,
            superseded=work.superseded,
            wants_logprob=work.wants_logprob,
        )


@dataclass(frozen=True)
class Calls:
    """Makes calls of models, each under a reservation of its own."""

    admissions: Admissions
    scheduler: Scheduler
    clock: Clock

    @asynccontextmanager
    async def begin(self, work: Work, catalogue: Catalogue) -> AsyncIterator[Call]:
        """Reserve, and give back at the end what costs nothing. Errors as for `Admissions.admit`."""
        context = work.request.context
        with use_context(context):
            admitted = await self.admissions.admit(work.request, work.model.name, work.upper_bound, catalogue)
        call = Call(work, admitted, self)
        try:
            yield call
        finally:
            if call.is_free:
                with use_context(context):
                    self.admissions.nothing_generated(admitted, is_certain=call.is_known_free)


class Generation:
    """An answer that one call of a model makes. `answer` is there when it ended well."""

    def __init__(
        self, request: Request, choice: Choice, analysis: Analysis | None, catalogue: Catalogue, calls: Calls
    ) -> None:
        self._work = Work(request, choice.model, analysis)
        self._choice = choice
        self._catalogue = catalogue
        self._calls = calls
        self.answer: Answer | None = None
        self.is_free = True

    async def events(self) -> AsyncGenerator[Event]:
        """What the caller hears. Closing it stops the model."""
        async with self._calls.begin(self._work, self._catalogue) as call:
            try:
                async with aclosing(call.steps()) as steps:
                    async for step in steps:
                        yield self._event(call, step)
            finally:
                self.is_free = call.is_free

    def _event(self, call: Call, step: Progress) -> Event:
        match step:
            case Started():
                return decision_of(call, self._choice)
            case Chunk():
                return Delta(step.text)
            case Finished():
                self.answer = call.answer()
                return final_of([call], self._calls.clock)


def decision_of(call: Call, choice: Choice, request_id: str = "", *, buffered: bool = False) -> Decision:
    """What the caller hears about a call that was started. `request_id` where it is not the call's own."""
    request, model, admitted = call.work.request, choice.model, call.admitted
    started = call.started or Started("", "")
    return Decision(
        request_id=request_id or request.context.request_id,
        cache_level=CacheLevel.NONE,
        tier=model.tier,
        model=model.name,
        quantization=started.quantization or model.quantization,
        explanation=choice.explanation,
        pool=started.pool,
        analysis=call.work.analysis,
        reservation_id=admitted.reservation_id,
        reserved=admitted.amount if admitted.reservation_id else None,
        degradations=tuple(request.degradations),
        routing=choice.routing,
        buffered=buffered,
    )


def final_of(calls: Sequence[Call], clock: Clock, *, answering: Call | None = None, held_back: bool = False) -> Final:
    """The end of an answer that took these calls, all of them finished. `answering` is the one that the caller reads,
    the last one unless said; `held_back` until now."""
    answering = answering or calls[-1]
    assert answering.finished is not None
    elapsed_s = clock.monotonic() - answering.work.request.arrived_s
    first_s = None if held_back else answering.first_token_s
    told = tuple(call.told() for call in calls)
    return Final(
        finish_reason=answering.finished.finish_reason,
        usage=sum((each.usage for each in told), TokenUsage()),
        costs=sum((call.costs for call in calls), costs.NOTHING),
        time_to_first_token_s=elapsed_s if first_s is None else first_s,
        duration_s=elapsed_s,
        calls=told,
    )
