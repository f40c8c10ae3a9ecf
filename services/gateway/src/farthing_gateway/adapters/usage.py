"""Usage events of answers from a cache, through the kit's outbox."""

from __future__ import annotations

from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1.model_pb2 import CacheLevel as CacheLevelMessage
from farthing.type.v1.model_pb2 import FinishReason as FinishReasonMessage
from farthing.type.v1.principal_pb2 import Principal
from farthing_gateway.adapters.wire import (
    attempt_to_message,
    hit_price_to_message,
    quote_to_message,
    tier_to_message,
    timestamp,
)
from farthing_gateway.ports import CachedUse
from farthing_kit.outbox import Outbox
from farthing_kit.wire import usage_to_message


class OutboxUsageBook:
    """The UsageBook port: on local disk before the caller hears the answer, in the stream USAGE soon after."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def record(self, use: CachedUse) -> None:
        principal = use.context.principal
        subject = f"usage.{principal.org}"
        await self._outbox.append(f"{use.attempt.id}/hit", subject, _event(use).SerializeToString())


def _event(use: CachedUse) -> UsageEvent:
    who, answer = use.context.principal, use.answer
    event = UsageEvent(
        request_id=use.context.request_id,
        principal=Principal(org=who.org, team=who.team, user=who.user, key_id=who.key_id),
        cache_level=CacheLevelMessage.ValueType(use.level),
        tier=tier_to_message(answer.tier),
        quantization=answer.quantization,
        counterfactual_usage=usage_to_message(answer.usage),
        quote=quote_to_message(use.quote) if use.quote is not None else None,
        end_time=timestamp(use.ended_at),
        finish_reason=FinishReasonMessage.ValueType(answer.finish_reason),
        tags=use.tags,
        reservation_id=use.reservation_id,
        hit_price=hit_price_to_message(use.price),
        attempt=attempt_to_message(use.attempt),
    )
    event.usage.SetInParent()
    return event
