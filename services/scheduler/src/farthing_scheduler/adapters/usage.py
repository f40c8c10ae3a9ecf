"""Usage events, through the outbox to accounting."""

from __future__ import annotations

from datetime import datetime

from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1.model_pb2 import CacheLevel
from farthing.type.v1.principal_pb2 import Principal
from farthing_kit import wire
from farthing_kit.outbox import Outbox
from farthing_scheduler.domain.job import Finished, Job, Started
from farthing_scheduler.wire import timestamp


class OutboxUsage:
    """Writes one event per request; the request id is its message id and its key in the ledger."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def record(self, job: Job, started: Started, finished: Finished, ended: datetime) -> None:
        event = _event(job, started, finished, ended)
        await self._outbox.append(job.id, f"usage.{job.context.principal.org}", event.SerializeToString())


def _event(job: Job, started: Started, finished: Finished, ended: datetime) -> UsageEvent:
    charge, payer = job.request.charge, job.context.principal
    usage = wire.usage_to_message(finished.usage)
    return UsageEvent(
        request_id=job.id,
        principal=Principal(org=payer.org, team=payer.team, user=payer.user, key_id=payer.key_id),
        end_time=timestamp(ended),
        reservation_id=charge.reservation_id,
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
