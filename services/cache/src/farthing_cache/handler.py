"""farthing.cache.v1.CacheService: translates calls into use cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from opentelemetry import trace

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1 import cache_service_pb2_grpc as rpc
from farthing.type.v1.model_pb2 import CacheLevel
from farthing_cache.app.analysis import Analyst
from farthing_cache.app.answers import AnswerCache
from farthing_cache.app.erasure import Erasure
from farthing_cache.app.flights import Failed, Finished, Flights, Piece
from farthing_cache.app.semantic import Asked, Match, SemanticCache
from farthing_cache.domain.admission import Verdict
from farthing_cache.domain.answer import CacheKey, Epoch, Extent, Mark, Moment, Offer, Org, Wanted
from farthing_cache.domain.errors import not_your_partition
from farthing_cache.domain.flight import Lease
from farthing_cache.ports import Found, Nearby
from farthing_cache.wire import (
    MAX_NAME_CHARS,
    analysis_to_message,
    answer_to_keep,
    answer_to_message,
    key_from_message,
    meaning_from_message,
    positive_duration,
    question_from_message,
    tags_from_message,
)
from farthing_kit.clock import Clock
from farthing_kit.context import Role, require_context
from farthing_kit.errors import InvalidArgument
from farthing_kit.telemetry import Attr
from farthing_kit.wire import span_from_message

MAX_IDEMPOTENCY_KEY_CHARS = 128
MAX_TASKS = 16


@dataclass(frozen=True)
class CacheHandler(rpc.CacheServiceServicer):
    """The tenant of every call is the signed context's, never a field's."""

    answers: AnswerCache
    semantic: SemanticCache
    flights: Flights
    nearby: Nearby
    analyst: Analyst
    erasure: Erasure
    clock: Clock
    text_limit_chars: int

    async def Lookup(self, request: pb.LookupRequest, context: Any) -> pb.LookupResponse:
        key = _key(request.key)
        if request.no_cache:
            return _found(await self.answers.stands(_org(), key))
        wanted = _wanted(request)
        found = await self.answers.look_up(_org(), key, wanted, claim=request.claim, prefix=request.prefix_digest)
        trace.get_current_span().set_attribute(Attr.CACHE_HIT, found.entry is not None)
        return _found(found)

    async def SemanticLookup(self, request: pb.SemanticLookupRequest, context: Any) -> pb.SemanticLookupResponse:
        asked = Asked(
            _org(),
            _key(request.key),
            meaning_from_message(request.meaning, self.text_limit_chars),
            _category(request.task),
            max(0.0, request.max_error_share),
            _wanted(request),
            request.min_score,
        )
        match = await self.semantic.look_up(asked)
        span = trace.get_current_span()
        span.set_attribute(Attr.CACHE_HIT, match.served)
        span.set_attribute(Attr.CACHE_SIMILARITY, match.similarity)
        return _matched(match)

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishResponse:
        finished = request.finished.SerializeToString() if request.HasField("finished") else None
        left = await self.flights.publish(
            _org(),
            _key(request.key),
            _moment(request),
            request.lease,
            request.offset_bytes,
            request.text,
            finished,
        )
        return pb.PublishResponse(time_to_live=_duration(left))

    async def Follow(self, request: pb.FollowRequest, context: Any) -> AsyncIterator[pb.FollowResponse]:
        async for event in self.flights.follow(_org(), _key(request.key), _moment(request)):
            yield _event(event)

    async def Release(self, request: pb.ReleaseRequest, context: Any) -> pb.ReleaseResponse:
        if len(request.reason) > MAX_NAME_CHARS:
            raise InvalidArgument.field("reason", f"must have at most {MAX_NAME_CHARS} characters")
        released = await self.flights.release(
            _org(), _key(request.key), _moment(request), request.lease, request.reason
        )
        return pb.ReleaseResponse(released=released)

    async def Store(self, request: pb.StoreRequest, context: Any) -> pb.StoreResponse:
        org, key, at = _org(), _key(request.key), _moment(request)
        answer = answer_to_keep(request.answer, self.clock.now())
        meaning = meaning_from_message(request.meaning, self.text_limit_chars) if request.HasField("meaning") else None
        life = positive_duration(request.time_to_live, "time_to_live") if request.HasField("time_to_live") else None
        offer = Offer(
            answer,
            life,
            at.mark,
            age=self.clock.now() - answer.created_at,
            tags=tags_from_message(request.tags),
            took=span_from_message(request.took, "took"),
            cost_nano_usd=max(0, request.cost.nano_units),
            meaning=self.semantic.kept(org, key, meaning) if meaning is not None else None,
        )
        verdict = await self.answers.keep(org, key, offer, at.epoch)
        if request.lease:
            await self.flights.finish(org, key, at, request.lease, answer.text, _provenance(request.answer))
        # The values of the two enumerations are the same.
        return pb.StoreResponse(stored=verdict is Verdict.KEPT, reason=pb.NotStored.ValueType(verdict))

    async def Invalidate(self, request: pb.InvalidateRequest, context: Any) -> pb.InvalidateResponse:
        if not 1 <= len(request.idempotency_key) <= MAX_IDEMPOTENCY_KEY_CHARS:
            raise InvalidArgument.field("idempotency_key", f"must have 1 to {MAX_IDEMPOTENCY_KEY_CHARS} characters")
        if len(request.model) > MAX_NAME_CHARS:
            raise InvalidArgument.field("model", f"must have at most {MAX_NAME_CHARS} characters")
        extent = Extent(request.model, tags_from_message(request.tags))
        org = _org_named(request.org, "Invalidate")
        return pb.InvalidateResponse(epoch=await self.answers.forget(org, extent, request.idempotency_key))

    async def Erase(self, request: pb.EraseRequest, context: Any) -> pb.EraseResponse:
        return pb.EraseResponse(keys=await self.erasure.erase(_org_named(request.org, "Erase")))

    async def ReportOutcome(self, request: pb.ReportOutcomeRequest, context: Any) -> pb.ReportOutcomeResponse:
        right = {pb.AGREEMENT_SAME: True, pb.AGREEMENT_DIFFERENT: False}.get(request.agreement)
        if right is None:
            raise InvalidArgument.field("agreement", "must say whether the answer was right")
        counted = await self.semantic.report(_org(), request.lookup_id, right=right)
        if counted is None:
            raise InvalidArgument.field("lookup_id", "must be one of this organisation's look-ups of the last day")
        return pb.ReportOutcomeResponse(counted=counted)

    async def Analyze(self, request: pb.AnalyzeRequest, context: Any) -> pb.AnalyzeResponse:
        org = _org_named(request.org, "Analyze")
        return analysis_to_message(await self.analyst.analyze(org, question_from_message(request)))

    async def GetStats(self, request: pb.GetStatsRequest, context: Any) -> pb.GetStatsResponse:
        counted, near = self.answers.counts, self.nearby
        response = pb.GetStatsResponse(
            hits=counted.hits,
            misses=counted.misses,
            stores=counted.stores,
            invalidations=counted.invalidations,
            store_errors=counted.store_errors,
            semantic_hits=counted.semantic_hits,
            semantic_misses=counted.semantic_misses,
            flights_led=counted.led,
            flights_followed=counted.followed,
            takeovers=counted.takeovers,
            vectors=near.vectors,
            vector_bytes=near.size_bytes,
            evictions=counted.evictions,
            partitions=near.partitions,
        )
        context = require_context()
        if request.org or context.role is not Role.OPERATOR:
            await self._add_categories(_org_named(request.org, "GetStats"), response)
        return response

    async def _add_categories(self, org: Org, response: pb.GetStatsResponse) -> None:
        for task, known in await self.semantic.evidence.standings(org, range(MAX_TASKS)):
            response.categories.add(
                task=task,
                lookups=known.standing.requests,
                served=known.standing.hits,
                labels=known.standing.labels,
                wrong=known.wrong,
                threshold=known.standing.threshold,
                error_bound=known.standing.wrong_at_most,
                max_error_share=known.delta,
            )


def _org() -> Org:
    return Org(require_context().principal.org)


def _key(message: pb.CacheKey) -> CacheKey:
    return key_from_message(message, require_context().principal)


def _org_named(named: str, method: str) -> Org:
    context = require_context()
    if context.role is Role.OPERATOR:
        if not named:
            raise InvalidArgument.field("org", "must name the organisation")
        return Org(named)
    if named not in ("", context.principal.org):
        raise not_your_partition(method)
    return Org(context.principal.org)


def _moment(request: pb.PublishRequest | pb.FollowRequest | pb.ReleaseRequest | pb.StoreRequest) -> Moment:
    return Moment(Epoch(request.epoch), Mark(request.mark))


def _category(task: int) -> int:
    return task if 0 <= task < MAX_TASKS else 0


def _wanted(request: pb.LookupRequest | pb.SemanticLookupRequest) -> Wanted:
    max_age = positive_duration(request.max_age, "max_age") if request.HasField("max_age") else None
    return Wanted(max_age, request.min_tier)


def _found(found: Found) -> pb.LookupResponse:
    response = pb.LookupResponse(level=CacheLevel.CACHE_LEVEL_NONE, epoch=found.epoch, mark=found.mark)
    if found.entry is not None:
        response.answer.CopyFrom(answer_to_message(found.entry.answer))
        response.level = CacheLevel.CACHE_LEVEL_EXACT
        response.time_to_live.FromTimedelta(found.entry.time_to_live)
    if found.claim is not None and found.claim.lease is not None:
        response.flight.CopyFrom(_flight(found.claim.lease))
    elif found.claim is not None and found.claim.follow and found.entry is None:
        response.flight.SetInParent()
    return response


def _matched(match: Match) -> pb.SemanticLookupResponse:
    level = CacheLevel.CACHE_LEVEL_SEMANTIC if match.served else CacheLevel.CACHE_LEVEL_NONE
    response = pb.SemanticLookupResponse(
        level=level,
        similarity=match.similarity,
        score=match.score,
        threshold=match.threshold,
        explore=match.compare,
        lookup_id=match.receipt,
        # The values of the two enumerations are the same.
        miss_reason=pb.MissReason.ValueType(match.outcome),
        veto=match.veto.value if match.veto else "",
    )
    if match.entry is not None:
        response.answer.CopyFrom(answer_to_message(match.entry.answer))
        response.time_to_live.FromTimedelta(match.entry.time_to_live)
    return response


def _event(event: Piece | Finished | Failed | Lease) -> pb.FollowResponse:
    match event:
        case Piece(text):
            return pb.FollowResponse(text=text)
        case Finished(provenance):
            return pb.FollowResponse(finished=pb.CachedAnswer.FromString(provenance))
        case Failed(reason):
            return pb.FollowResponse(failed=reason)
        case Lease():
            return pb.FollowResponse(lead=_flight(event))


def _flight(lease: Lease) -> pb.Flight:
    return pb.Flight(lease=lease.token, time_to_live=_duration(lease.time_to_live))


def _provenance(answer: pb.CachedAnswer) -> bytes:
    bare = pb.CachedAnswer()
    bare.CopyFrom(answer)
    bare.text = ""
    return bare.SerializeToString()


def _duration(span: timedelta) -> Duration:
    made = Duration()
    made.FromTimedelta(span)
    return made
