"""The exact cache over gRPC. Not retried: a cache that is slow to answer is worse than a miss."""

from __future__ import annotations

from datetime import UTC, timedelta

from google.protobuf.duration_pb2 import Duration

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import FinishReason as FinishReasonMessage
from farthing_gateway.adapters.wire import known, tier_to_message
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.model import FinishReason, Tier
from farthing_gateway.ports import Found
from farthing_kit.interceptors.client import Channel
from farthing_kit.wire import usage_from_message, usage_to_message


class GrpcCache:
    """The AnswerCache port."""

    def __init__(self, channel: Channel, *, look_up_timeout_s: float, store_timeout_s: float) -> None:
        self._stub = CacheServiceStub(channel)
        self._look_up_timeout_s = look_up_timeout_s
        self._store_timeout_s = store_timeout_s

    async def look_up(self, key: CacheKey, max_age: timedelta | None) -> Found:
        request = pb.LookupRequest(key=_key(key))
        if max_age:  # no age at all is no wish of the cache's: only the epoch is wanted then
            request.max_age.FromTimedelta(max_age)
        response = await self._stub.Lookup(request, timeout=self._look_up_timeout_s)
        if not response.HasField("answer"):
            return Found(response.epoch)
        return Found(response.epoch, _answer(response.answer), response.time_to_live.ToTimedelta())

    async def store(self, key: CacheKey, answer: Answer, epoch: int, time_to_live: timedelta) -> None:
        life = Duration()
        life.FromTimedelta(time_to_live)
        request = pb.StoreRequest(key=_key(key), answer=_message(answer), epoch=epoch, time_to_live=life)
        await self._stub.Store(request, timeout=self._store_timeout_s)


def _key(key: CacheKey) -> pb.CacheKey:
    return pb.CacheKey(compatibility_digest=key.compatibility, prompt_digest=key.prompt)


def _answer(message: pb.CachedAnswer) -> Answer:
    return Answer(
        text=message.text,
        usage=usage_from_message(message.usage),
        tier=known(Tier, message.tier, Tier.UNSPECIFIED),
        model=message.model,
        quantization=message.quantization,
        created_at=message.create_time.ToDatetime(UTC),
        finish_reason=known(FinishReason, message.finish_reason, FinishReason.UNSPECIFIED),
    )


def _message(answer: Answer) -> pb.CachedAnswer:
    message = pb.CachedAnswer(
        text=answer.text,
        finish_reason=FinishReasonMessage.ValueType(answer.finish_reason),
        usage=usage_to_message(answer.usage),
        tier=tier_to_message(answer.tier),
        model=answer.model,
        quantization=answer.quantization,
    )
    message.create_time.FromDatetime(answer.created_at)
    return message
