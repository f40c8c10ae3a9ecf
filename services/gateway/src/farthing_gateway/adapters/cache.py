"""The cache over gRPC. Not retried: a cache that is slow to answer is worse than a miss."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from farthing.accounting.v1.policy_pb2 import CacheScope as CacheScopeMessage
from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import CacheLevel
from farthing.type.v1.model_pb2 import FinishReason as FinishReasonMessage
from farthing.type.v1.model_pb2 import Task as TaskMessage
from farthing_gateway.adapters.wire import known, tier_to_message
from farthing_gateway.domain.answer import Answer
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.model import FinishReason, Tier
from farthing_gateway.domain.similar import Meaning, Similar, Terms
from farthing_gateway.ports import Failed, FlightNews, Found, Kept, Lead, Piece, Wanted, Whole
from farthing_kit.interceptors.client import Channel
from farthing_kit.wire import money_to_message, usage_from_message, usage_to_message

# What is not worth keeping, here or there.
_WORTHLESS: Final = frozenset({pb.NOT_STORED_REFUSAL, pb.NOT_STORED_EMPTY})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long each call may take, in seconds."""

    look_up: float
    search: float
    store: float


class GrpcCache:
    """The ports AnswerCache and FlightLine."""

    def __init__(self, channel: Channel, timeouts: Timeouts) -> None:
        self._stub = CacheServiceStub(channel)
        self._timeouts = timeouts

    async def look_up(self, key: CacheKey, wanted: Wanted) -> Found:
        request = pb.LookupRequest(
            key=_key(key), claim=wanted.claim, no_cache=wanted.moment_only, prefix_digest=wanted.prefix
        )
        if wanted.max_age:  # no age at all is no wish of the cache's: only the moment is wanted then
            request.max_age.FromTimedelta(wanted.max_age)
        response = await self._stub.Lookup(request, timeout=self._timeouts.look_up)
        hit = response.HasField("answer")
        flight = response.flight
        return Found(
            epoch=response.epoch,
            answer=_answer(response.answer) if hit else None,
            time_to_live=response.time_to_live.ToTimedelta(),
            mark=response.mark,
            lease=flight.lease,
            follow=not hit and response.HasField("flight") and not flight.lease,
        )

    async def search(self, key: CacheKey, meaning: Meaning, terms: Terms) -> Similar:
        request = pb.SemanticLookupRequest(
            key=_key(key),
            meaning=_meaning(meaning),
            task=TaskMessage.ValueType(terms.task),
            min_tier=tier_to_message(terms.min_tier),
            max_error_share=terms.max_error_share,
            min_score=terms.min_score or 0.0,
        )
        if terms.max_age:
            request.max_age.FromTimedelta(terms.max_age)
        return _similar(await self._stub.SemanticLookup(request, timeout=self._timeouts.search))

    async def store(self, key: CacheKey, kept: Kept) -> bool:
        request = pb.StoreRequest(
            key=_key(key),
            answer=_message(kept.answer),
            epoch=kept.found.epoch,
            time_to_live=_duration(kept.time_to_live),
            mark=kept.found.mark,
            lease=kept.found.lease,
            meaning=_meaning(kept.meaning) if kept.meaning is not None else None,
            tags=kept.tags,
            cost=money_to_message(kept.cost),
            took=_duration(timedelta(seconds=kept.took_s)),
        )
        response = await self._stub.Store(request, timeout=self._timeouts.store)
        return response.stored or response.reason not in _WORTHLESS

    async def report(self, lookup_id: bytes, *, right: bool) -> None:
        agreement = pb.AGREEMENT_SAME if right else pb.AGREEMENT_DIFFERENT
        request = pb.ReportOutcomeRequest(lookup_id=lookup_id, agreement=agreement)
        await self._stub.ReportOutcome(request, timeout=self._timeouts.store)

    async def publish(self, key: CacheKey, found: Found, offset_bytes: int, text: str, answer: Answer | None) -> None:
        request = pb.PublishRequest(
            key=_key(key), epoch=found.epoch, mark=found.mark, lease=found.lease, offset_bytes=offset_bytes, text=text
        )
        if answer is not None:
            request.finished.CopyFrom(_message(answer))
            request.finished.text = ""
        await self._stub.Publish(request, timeout=self._timeouts.store)

    async def release(self, key: CacheKey, found: Found) -> None:
        request = pb.ReleaseRequest(key=_key(key), epoch=found.epoch, mark=found.mark, lease=found.lease)
        await self._stub.Release(request, timeout=self._timeouts.store)

    async def follow(self, key: CacheKey, found: Found) -> AsyncGenerator[FlightNews]:
        # No time limit of its own: it lives as long as the request, and who follows watches for silence.
        call = self._stub.Follow(pb.FollowRequest(key=_key(key), epoch=found.epoch, mark=found.mark))
        try:
            async for response in call:
                yield _news(response)
        finally:
            call.cancel()


def _news(response: pb.FollowResponse) -> FlightNews:
    match response.WhichOneof("event"):
        case "text":
            return Piece(response.text)
        case "finished":
            return Whole(_answer(response.finished))
        case "lead":
            return Lead(response.lead.lease)
        case _:
            return Failed(response.failed)


def _key(key: CacheKey) -> pb.CacheKey:
    return pb.CacheKey(
        compatibility_digest=key.compatibility,
        prompt_digest=key.prompt,
        scope=CacheScopeMessage.ValueType(key.scope),
    )


def _meaning(meaning: Meaning) -> pb.Meaning:
    return pb.Meaning(
        embedding=meaning.embedding,
        encoder_sha256=meaning.encoder_sha256,
        text=meaning.text,
        has_history=meaning.has_history,
        truncated=meaning.truncated,
    )


def _similar(response: pb.SemanticLookupResponse) -> Similar:
    served = response.level == CacheLevel.CACHE_LEVEL_SEMANTIC
    reasons = pb.MissReason
    missed = response.miss_reason
    name = reasons.Name(missed) if missed in reasons.values() else "MISS_REASON_OTHER"
    return Similar(
        answer=_answer(response.answer) if response.HasField("answer") else None,
        served=served and response.HasField("answer"),
        compare=response.explore,
        similarity=response.similarity,
        score=response.score,
        threshold=response.threshold,
        lookup_id=response.lookup_id,
        missed="" if served else name.removeprefix("MISS_REASON_").lower(),
    )


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


def _duration(span: timedelta) -> Duration:
    made = Duration()
    made.FromTimedelta(span)
    return made
