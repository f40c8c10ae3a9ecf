"""Usage events, through the outbox to accounting."""

from __future__ import annotations

from datetime import datetime

from farthing.accounting.v1.usage_event_pb2 import Attempt, UsageEvent
from farthing.type.v1.model_pb2 import CacheLevel
from farthing.type.v1.principal_pb2 import Principal
from farthing_kit import wire
from farthing_kit.outbox import Outbox
from farthing_scheduler.domain.job import Finished, Job, Started
from farthing_scheduler.wire import timestamp


class OutboxUsage:
    """Writes one event for each run of a job. Accounting knows which of them to charge (see Attempt)."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def record(self, job: Job, run: int, started: Started, finished: Finished, ended: datetime) -> None:
        event, charge = _event(job, run, ended), job.request.charge
        usage = wire.usage_to_message(finished.usage)
        event.MergeFrom(
            UsageEvent(
                cache_level=CacheLevel.CACHE_LEVEL_NONE,
                tier=charge.tier,
                task=charge.task,
                pool=started.pool,
                quantization=started.quantization,
                usage=usage,
                counterfactual_usage=usage,
                quote=charge.quote,
                finish_reason=finished.reason,
                tags=charge.tags,
                superseded=charge.superseded if charge.HasField("superseded") else None,
            )
        )
        await self._append(event)

    async def void(self, job: Job, run: int, ended: datetime) -> None:
        event = _event(job, run, ended)
        if event.reservation_id:
            event.voided = True
            await self._append(event)

    async def _append(self, event: UsageEvent) -> None:
        attempt, word = event.attempt, "void" if event.voided else "use"
        message_id = f"{event.request_id}/{attempt.attempt_id}/{attempt.run}/{word}"
        await self._outbox.append(message_id, f"usage.{event.principal.org}", event.SerializeToString())


def _event(job: Job, run: int, ended: datetime) -> UsageEvent:
    """What every end of a job has: which it was, whose, and which reservation it settles."""
    charge, payer = job.request.charge, job.context.principal
    return UsageEvent(
        request_id=job.request_id,
        principal=Principal(org=payer.org, team=payer.team, user=payer.user, key_id=payer.key_id),
        end_time=timestamp(ended),
        reservation_id=charge.reservation_id,
        attempt=_attempt(job, run),
    )


def _attempt(job: Job, run: int) -> Attempt:
    """As the gateway said; one that does not say (an older one) makes a single attempt, when the job is queued."""
    if not job.request.charge.HasField("attempt"):
        return Attempt(request_id=job.request_id, attempt_id=job.id, begin_time=timestamp(job.enqueued), run=run)
    said = job.request.charge.attempt
    return Attempt(request_id=said.request_id, attempt_id=said.attempt_id, begin_time=said.begin_time, run=run)
