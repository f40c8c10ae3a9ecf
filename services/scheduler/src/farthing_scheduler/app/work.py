"""The worker: takes jobs, runs them, books what they used, and says how they ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol

from opentelemetry import trace
from opentelemetry.trace import SpanKind

from farthing.type.v1.model_pb2 import FinishReason
from farthing_kit import deadline, tasks
from farthing_kit.charging import Charged, saying
from farthing_kit.clock import Clock
from farthing_kit.context import use_context
from farthing_kit.errors import FarthingError, InternalError
from farthing_kit.telemetry import Attr, SpanName, Telemetry, tracing
from farthing_scheduler.app.outgoing import Outgoing
from farthing_scheduler.app.run import Ended, Run, Stop
from farthing_scheduler.domain import errors
from farthing_scheduler.domain.admission import Verdict, admit
from farthing_scheduler.domain.job import Finished, Job
from farthing_scheduler.domain.subjects import job_subject
from farthing_scheduler.domain.tombstones import Tombstones
from farthing_scheduler.ports import Cancels, Delivery, Engine, JobSource, Replies, UsageLog

# How long cancelled runs may take to settle at the end of a drain.
SETTLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The bounds of one worker."""

    max_attempts: int = 2
    heartbeat_s: float = 2.0
    lease_s: float = 6.0
    coalesce_s: float = 0.002
    drain_s: float = 8.0
    tombstones: int = 10_000
    tombstone_lifetime_s: float = 900.0


class Observer(Protocol):
    """Counts what the worker does."""

    def taken(self, job: Job, waited_s: float) -> None:
        """A job began."""
        ...

    def ended(self, job: Job, outcome: str) -> None:
        """It ended: how the model finished, "failed", or why it was stopped."""
        ...

    def refused(self, job: Job, outcome: str) -> None:
        """A job was not begun, and why."""
        ...


class Worker:
    """Runs jobs until its task is cancelled; then it drains."""

    def __init__(
        self,
        *,
        source: JobSource,
        engine: Engine,
        replies: Replies,
        cancels: Cancels,
        usage: UsageLog,
        observer: Observer,
        telemetry: Telemetry,
        clock: Clock,
        limits: WorkerLimits,
    ) -> None:
        self._source = source
        self._engine = engine
        self._replies = replies
        self._cancels = cancels
        self._usage = usage
        self._observer = observer
        self._telemetry = telemetry
        self._clock = clock
        self._limits = limits
        self._tombstones = Tombstones(limits.tombstones, limits.tombstone_lifetime_s)
        self._runs: dict[str, Run] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_draining = False

    async def run(self) -> None:
        """Keep the runs alive in the eyes of the queue and of their callers. Cancelled, it takes no more jobs, waits
        for those that run, and hands over the rest."""
        try:
            while True:
                await self._clock.sleep(self._limits.heartbeat_s)
                await self._beat()
                await self._source.maintain()
        finally:
            await self._drain()

    async def serve(self, models: Sequence[str]) -> None:
        """Take jobs for these models too."""
        if not self._is_draining:
            await self._source.serve(models)

    def take(self, delivery: Delivery) -> None:
        """Begin with a job, in a task of its own."""
        task = tasks.spawn("job", self._handle(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def cancel(self, job_id: str, below_attempt: int, discard_usage: bool) -> None:
        """End a job: now if it runs here, else when it is delivered here."""
        run = self._runs.get(job_id)
        if below_attempt == 0:
            if run is None:
                self._tombstones.add(job_id, self._clock.monotonic())
            else:
                run.stop(Stop.FAILED if discard_usage else Stop.CANCELLED)
        elif run is not None and run.delivery.attempt < below_attempt:
            run.stop(Stop.OVERTAKEN)

    def unheard(self, job_id: str) -> None:
        """Nobody listened to a reply of this job."""
        run = self._runs.get(job_id)
        if run is not None:
            run.unheard()

    async def _handle(self, delivery: Delivery) -> None:
        try:
            if self._is_draining:
                await delivery.hand_over()
            else:
                await self._judge(delivery)
        except Exception as error:
            self._telemetry.log.error("a job could not be handled", exception=error, attempt=delivery.attempt)
        finally:
            await self._source.release(delivery)

    async def _judge(self, delivery: Delivery) -> None:
        job = delivery.job
        verdict = admit(
            attempt=delivery.attempt,
            max_attempts=self._limits.max_attempts,
            deadline=job.deadline,
            now=self._clock.now(),
            cancelled=self._tombstones.take(job.id, self._clock.monotonic()),
        )
        outgoing = Outgoing(self._replies, job.reply_subject, delivery.attempt, self._limits.coalesce_s)
        if verdict in (Verdict.RUN, Verdict.ASK):
            await self._run(delivery, outgoing, ask=verdict is Verdict.ASK)
        else:
            if verdict is Verdict.EXHAUSTED:  # an earlier worker may only have slept
                await self._cancels.cancel(job.id, below_attempt=delivery.attempt)
            await self._void(delivery)
            await delivery.done()
            await outgoing.end(error=_refusal(verdict, job))
            self._observer.refused(job, verdict.value)

    async def _run(self, delivery: Delivery, outgoing: Outgoing, *, ask: bool) -> None:
        job, now = delivery.job, self._clock.now()
        waited_s = max(0.0, (now - job.enqueued).total_seconds())
        left_s = (job.deadline - now).total_seconds()
        now_s, lease_s = self._clock.monotonic(), self._limits.lease_s
        run = Run(delivery, outgoing, left_s=left_s, waited_s=waited_s, now_s=now_s, lease_s=lease_s)
        with use_context(job.context), self._span(delivery, waited_s) as span:
            deadline.set_remaining(left_s)
            outcome = "failed"
            self._register(run)
            try:
                if ask and not await self._is_permitted(run):
                    outcome = "denied"
                    return
                ended = await self._through(run)
                outcome = _outcome(ended)
                await self._settle(run, ended)
            finally:
                span.set_attribute(Attr.FINISH_REASON, outcome)
                self._unregister(run, outcome)

    async def _through(self, run: Run) -> Ended:
        try:
            return await run.through(self._engine)
        except Exception as error:
            self._telemetry.log.error("a job failed unexpectedly", exception=error, model=run.job.model)
            return Ended(error=InternalError("internal"))

    async def _is_permitted(self, run: Run) -> bool:
        """A later attempt begins with a question, and with the word to the earlier worker, in case it only slept."""
        permitted = await run.outgoing.may_run()
        if permitted:
            await self._cancels.cancel(run.job.id, below_attempt=run.delivery.attempt)
        elif permitted is None:
            await run.delivery.hand_over()
        else:
            await self._void(run.delivery)
            await run.delivery.done()
        return bool(permitted)

    async def _settle(self, run: Run, ended: Ended) -> None:
        """Write down how the job ended, charged or not, take it out of the queue, and only then say so: who hears it
        may rely on the books, and ask again at once. Who has the job of a run that was frozen settles it, and may have
        given back what was held for it: the run counts only while its caller still waits for it."""
        if run.was_frozen(self._clock.monotonic()) and not await run.outgoing.may_run():
            run.outgoing.drop()
            return
        match ended:
            case Ended(finished=Finished() as finished):
                await self._complete(run, finished)
            case Ended(stop=Stop.CANCELLED):
                await self._break_off(run, errors.cancelled)
            case Ended(stop=Stop.DEADLINE):
                await self._break_off(run, errors.deadline_passed)
            case Ended(stop=Stop.DRAIN):
                await self._hand_over(run)
            case Ended(stop=Stop.FAILED):
                await self._fail(run, None)
            case Ended(error=FarthingError() as error):
                await self._fail(run, saying(error, Charged.NO))
            case _:
                run.outgoing.drop()  # overtaken: the later attempt settles the job

    async def _complete(self, run: Run, finished: Finished) -> None:
        refusal = await self._recorded(run, finished)
        await run.delivery.done()
        await run.outgoing.end(finished=finished if refusal is None else None, error=refusal)

    async def _break_off(self, run: Run, error: Callable[[Charged], FarthingError]) -> None:
        """What was used until now is booked, if anything was."""
        so_far = Finished(FinishReason.FINISH_REASON_CANCELLED, run.tally.usage)
        if run.started is None or so_far.usage.total == 0:
            await self._fail(run, error(Charged.NO))
            return
        refusal = await self._recorded(run, so_far)
        await run.delivery.done()
        await run.outgoing.end(error=refusal or error(Charged.YES))

    async def _fail(self, run: Run, error: FarthingError | None) -> None:
        """Nothing is charged. Without an error, the caller was told before."""
        await self._void(run.delivery)
        await run.delivery.done()
        if error is None:
            run.outgoing.drop()
        else:
            await run.outgoing.end(error=error)

    async def _recorded(self, run: Run, finished: Finished) -> FarthingError | None:
        """Book it; returns why that could not be done: then nothing is charged."""
        assert run.started is not None, "an engine answered without having started"
        try:
            await self._usage.record(run.job, run.delivery.attempt, run.started, finished, self._clock.now())
        except FarthingError as refusal:
            self._telemetry.log.error("usage cannot be written down", exception=refusal)
            return saying(refusal, Charged.NO)
        return None

    async def _void(self, delivery: Delivery) -> None:
        """Have the reservation given back. Where that cannot be written down, it expires."""
        try:
            await self._usage.void(delivery.job, delivery.attempt, self._clock.now())
        except FarthingError as refusal:
            self._telemetry.log.error("a reservation could not be voided", exception=refusal)

    async def _hand_over(self, run: Run) -> None:
        """An answer that was begun cannot go on elsewhere; one that was not can."""
        if run.outgoing.has_text:
            await self._fail(run, errors.worker_stopped(run.job.request_id))
        else:
            run.outgoing.drop()
            await run.delivery.hand_over()

    async def _beat(self) -> None:
        for run in list(self._runs.values()):
            await run.beat(self._clock.monotonic())

    async def _drain(self) -> None:
        self._is_draining = True
        await self._source.stop()
        await self._wait(self._limits.drain_s)
        for run in list(self._runs.values()):
            run.stop(Stop.DRAIN)
        await self._wait(SETTLE_S)

    async def _wait(self, seconds: float) -> None:
        """Wait for all runs, with signs of life meanwhile."""
        end = self._clock.monotonic() + seconds
        while self._tasks and (left_s := end - self._clock.monotonic()) > 0:
            await asyncio.wait(self._tasks, timeout=min(left_s, self._limits.heartbeat_s))
            await self._beat()

    def _register(self, run: Run) -> None:
        earlier = self._runs.get(run.job.id)
        if earlier is not None:
            earlier.stop(Stop.OVERTAKEN)
        self._runs[run.job.id] = run
        self._observer.taken(run.job, run.waited_s)

    def _unregister(self, run: Run, outcome: str) -> None:
        if self._runs.get(run.job.id) is run:
            del self._runs[run.job.id]
        self._observer.ended(run.job, outcome)

    def _span(self, delivery: Delivery, waited_s: float) -> AbstractContextManager[trace.Span]:
        job = delivery.job
        return self._telemetry.span(
            SpanName.JOB_RUN,
            kind=SpanKind.CONSUMER,
            parent=tracing.extract(delivery.headers),
            attributes={
                Attr.MESSAGING_SYSTEM: "nats",
                Attr.MESSAGING_OPERATION: "process",
                Attr.MESSAGING_DESTINATION: job_subject(job.model),
                Attr.MESSAGING_MESSAGE_ID: job.id,
                Attr.REQUEST_ID: job.request_id,
                Attr.ORG: job.context.principal.org,
                Attr.GENAI_REQUEST_MODEL: job.model,
                Attr.QUEUE_WAIT_MS: round(waited_s * 1000, 3),
                Attr.ATTEMPT: delivery.attempt,
            },
        )


def _outcome(ended: Ended) -> str:
    if ended.finished is not None:
        return FinishReason.Name(ended.finished.reason).removeprefix("FINISH_REASON_").lower()
    return ended.stop.value if ended.stop is not None else "failed"


def _refusal(verdict: Verdict, job: Job) -> FarthingError:
    match verdict:
        case Verdict.CANCELLED:
            return errors.cancelled(Charged.NO)
        case Verdict.EXPIRED:
            return errors.waited_too_long()
        case _:
            return errors.worker_lost(job.request_id)
