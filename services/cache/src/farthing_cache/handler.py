"""farthing.cache.v1.CacheService: translates calls into use cases."""

from __future__ import annotations

from typing import Any

from opentelemetry import trace

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1 import cache_service_pb2_grpc as rpc
from farthing.type.v1.model_pb2 import CacheLevel
from farthing_cache.app import AnswerCache
from farthing_cache.domain.answer import Entry, Epoch, Org
from farthing_cache.domain.errors import not_your_partition
from farthing_cache.wire import answer_to_keep, answer_to_message, key_from_message, positive_duration
from farthing_kit.clock import Clock
from farthing_kit.context import Role, require_context
from farthing_kit.errors import InvalidArgument
from farthing_kit.telemetry import Attr

MAX_IDEMPOTENCY_KEY_CHARS = 128


class CacheHandler(rpc.CacheServiceServicer):
    """The tenant of every call is the signed context's, never a field's."""

    def __init__(self, cache: AnswerCache, clock: Clock) -> None:
        self._cache = cache
        self._clock = clock

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        key = key_from_message(request.key)
        max_age = positive_duration(request.max_age, "max_age") if request.HasField("max_age") else None
        epoch, entry = await self._cache.look_up(_org(), key, max_age)
        trace.get_current_span().set_attribute(Attr.CACHE_HIT, entry is not None)
        return _found(epoch, entry)

    async def Store(self, request: pb.StoreRequest, context: Any) -> pb.StoreResponse:
        key = key_from_message(request.key)
        answer = answer_to_keep(request.answer, self._clock.now())
        life = positive_duration(request.time_to_live, "time_to_live") if request.HasField("time_to_live") else None
        return pb.StoreResponse(stored=await self._cache.keep(_org(), key, answer, Epoch(request.epoch), life))

    async def Invalidate(self, request: pb.InvalidateRequest, context: Any) -> pb.InvalidateResponse:
        if not 1 <= len(request.idempotency_key) <= MAX_IDEMPOTENCY_KEY_CHARS:
            raise InvalidArgument.field("idempotency_key", f"must have 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters")
        return pb.InvalidateResponse(
            epoch=await self._cache.forget(_org_to_forget(request.org), request.idempotency_key)
        )

    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:
        counted = self._cache.counts
        return pb.GetStatsResponse(
            hits=counted.hits,
            misses=counted.misses,
            stores=counted.stores,
            invalidations=counted.invalidations,
            store_errors=counted.store_errors,
        )


def _org() -> Org:
    return Org(require_context().principal.org)


def _org_to_forget(named: str) -> Org:
    context = require_context()
    if context.role is Role.OPERATOR:
        if not named:
            raise InvalidArgument.field("org", "must name the organisation to forget")
        return Org(named)
    if named not in ("", context.principal.org):
        raise not_your_partition()
    return Org(context.principal.org)


def _found(epoch: Epoch, entry: Entry | None) -> pb.LookupResponse:
    if entry is None:
        return pb.LookupResponse(level=CacheLevel.CACHE_LEVEL_NONE, epoch=epoch)
    response = pb.LookupResponse(
        answer=answer_to_message(entry.answer), level=CacheLevel.CACHE_LEVEL_EXACT, epoch=epoch
    )
    response.time_to_live.FromTimedelta(entry.time_to_live)
    return response
