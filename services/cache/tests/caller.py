"""What a gateway does with the cache, as short as it can be said: look up, follow, or generate, publish and store."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceStub
from farthing.type.v1.model_pb2 import FinishReason, Tier
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_kit.errors import NotFound

Upstream = Callable[[], AsyncIterator[str]]


def provenance(finish: FinishReason.ValueType = FinishReason.FINISH_REASON_STOP) -> pb.CachedAnswer:
    """Where an answer came from, without its text."""
    return pb.CachedAnswer(
        finish_reason=finish,
        usage=TokenUsage(fresh_input_tokens=7, output_tokens=3),
        tier=Tier.TIER_SMALL,
        model="small",
        quantization="INT4",
    )


@dataclass
class Caller:
    """One request at a time, over one replica of the cache."""

    stub: CacheServiceStub
    upstream: Upstream

    async def ask(self, key: pb.CacheKey) -> str:
        """The answer, from wherever it comes first."""
        found = await self.stub.Lookup(pb.LookupRequest(key=key, claim=True), timeout=20)
        if found.HasField("answer"):
            return found.answer.text
        if found.HasField("flight") and not found.flight.lease:
            return await self._follow(key, found)
        return await self._lead(key, found, found.flight.lease, "")

    async def _follow(self, key: pb.CacheKey, found: pb.LookupResponse) -> str:
        sent = ""
        try:
            under_way = pb.FollowRequest(key=key, epoch=found.epoch, mark=found.mark)
            async for event in self.stub.Follow(under_way, timeout=20):
                sent += event.text
                if event.HasField("lead"):
                    return await self._lead(key, found, event.lead.lease, sent)
        except NotFound:
            return await self._alone(sent)
        return sent

    async def _lead(self, key: pb.CacheKey, found: pb.LookupResponse, lease: bytes, sent: str) -> str:
        text = ""
        async for piece in self.upstream():
            await self._publish(key, found, lease, text, piece)
            text += piece
        answer = provenance()
        await self._publish(key, found, lease, text, "", answer)
        answer.text = text
        await self.stub.Store(pb.StoreRequest(key=key, answer=answer, epoch=found.epoch, mark=found.mark), timeout=20)
        assert text.startswith(sent)
        return text

    async def _publish(
        self,
        key: pb.CacheKey,
        found: pb.LookupResponse,
        lease: bytes,
        before: str,
        piece: str,
        finished: pb.CachedAnswer | None = None,
    ) -> None:
        """A lease that is lost is no reason to stop answering one's own caller."""
        request = pb.PublishRequest(
            key=key,
            epoch=found.epoch,
            mark=found.mark,
            lease=lease,
            offset_bytes=len(before.encode()),
            text=piece,
            finished=finished,
        )
        with suppress(NotFound):
            await self.stub.Publish(request, timeout=20)

    async def _alone(self, sent: str) -> str:
        return "".join([piece async for piece in self.upstream()])
