"""Generate, on the caller's side: queue the job, relay its replies, and end it when the caller leaves."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from datetime import timedelta

from farthing.scheduler.v1.scheduler_service_pb2 import GenerateRequest
from farthing_kit.clock import Clock
from farthing_kit.context import RequestContext
from farthing_scheduler.app.relays import Relays
from farthing_scheduler.domain.job import Event, Job, Reply
from farthing_scheduler.domain.subjects import new_job_id, reply_subject
from farthing_scheduler.ports import Cancels, JobQueue, ModelCatalog


class Generate:
    """One per replica; `instance` is its name on NATS."""

    def __init__(
        self,
        instance: str,
        *,
        queue: JobQueue,
        cancels: Cancels,
        models: ModelCatalog,
        relays: Relays,
        clock: Clock,
    ) -> None:
        self._instance = instance
        self._queue = queue
        self._cancels = cancels
        self._models = models
        self._relays = relays
        self._clock = clock

    async def run(self, context: RequestContext, request: GenerateRequest, within_s: float) -> AsyncGenerator[Event]:
        """The events of one job, Started first and Finished last. However the iteration ends, a job that has not ended
        by itself is cancelled."""
        await self._models.require(request.model)
        job = self._job(context, request, within_s)
        with self._relays.open(job) as relay:
            try:
                relay.life = await self._queue.submit(job, relay.refuse)
                is_last = False
                while not is_last:
                    reply = await relay.next()
                    is_last = reply.is_last
                    for event in _events(reply):
                        yield event
            finally:
                if relay.claim_cancel():
                    await self._cancels.cancel(job.id, discard_usage=relay.was_told_failure)

    async def watch(self, interval_s: float) -> None:
        """End streams that wait in vain, again and again."""
        while True:
            await self._clock.sleep(interval_s)
            for relay in self._relays.check():
                await self._cancels.cancel(relay.job_id, discard_usage=relay.was_told_failure)

    def _job(self, context: RequestContext, request: GenerateRequest, within_s: float) -> Job:
        now, job_id = self._clock.now(), new_job_id()
        return Job(
            id=job_id,
            context=context,
            request=request,
            deadline=now + timedelta(seconds=within_s),
            enqueued=now,
            reply_subject=reply_subject(self._instance, job_id),
        )


def _events(reply: Reply) -> list[Event]:
    return [event for event in (reply.started, reply.chunk, reply.finished) if event is not None]
