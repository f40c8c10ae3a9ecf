"""Answers that are being made, in Redis: a hash that says who leads, and a string that grows."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from farthing.cache.v1.cache_service_pb2 import CachedAnswer
from farthing.type.v1.model_pb2 import FinishReason
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.adapters.redis import scripts
from farthing_cache.adapters.redis.answers import millis
from farthing_cache.adapters.redis.client import RedisClient
from farthing_cache.domain.answer import CacheKey, Moment, Org
from farthing_cache.domain.flight import Lease, Progress, Stage
from farthing_kit.errors import InvalidArgument

LEAD: Final = b"lead"
# What went wrong, or was cut short, is for those who wait already: who comes later makes the answer anew.
SHORT_GRACE: Final = timedelta(milliseconds=250)


class RedisFlights:
    """The FlightStore port, one round trip a method."""

    def __init__(
        self,
        client: RedisClient,
        names: KeyNames,
        *,
        lease_time_to_live: timedelta,
        grace: timedelta,
        max_leaders: int,
        limit_bytes: int,
    ) -> None:
        self._client = client
        self._names = names
        self._lease = lease_time_to_live
        self._grace = grace
        self._max_leaders = max_leaders
        self._limit_bytes = limit_bytes
        self._publish = client.script(scripts.PUBLISH)
        self._release = client.script(scripts.RELEASE)
        self._progress = client.script(scripts.PROGRESS)

    async def publish(
        self, org: Org, key: CacheKey, at: Moment, token: bytes, offset: int, text: bytes, provenance: bytes | None
    ) -> bool:
        args = [token, offset, text, millis(self._lease), self._limit_bytes]
        if provenance is not None:
            args += [millis(self._grace_of(provenance)), provenance]
        outcome = await self._client.ask(lambda: self._publish(keys=self._keys(org, key, at), args=args))
        if outcome < 0:
            raise InvalidArgument.field("offset_bytes", "is beyond what was published, must be the bytes so far")
        return bool(outcome)

    async def release(self, org: Org, key: CacheKey, at: Moment, token: bytes, reason: str) -> bool:
        keys = self._keys(org, key, at)[:1]
        args = [token, reason, millis(SHORT_GRACE)]
        return bool(await self._client.ask(lambda: self._release(keys=keys, args=args)))

    async def progress(self, org: Org, key: CacheKey, at: Moment, attempt: int, offset: int, token: bytes) -> Progress:
        args = [attempt, offset, token, millis(self._lease), self._max_leaders]
        said = await self._client.ask(lambda: self._progress(keys=self._keys(org, key, at), args=args))
        if said[0] == LEAD:
            return Progress(Stage.OPEN, int(said[1]), lease=Lease(token, self._lease))
        if len(said) < 5:
            return Progress(Stage.GONE, int(said[1]))
        stage, now, text, provenance, reason = said
        return Progress(Stage(stage.decode()), int(now), text, provenance, reason.decode())

    def _grace_of(self, provenance: bytes) -> timedelta:
        complete = CachedAnswer.FromString(provenance).finish_reason == FinishReason.FINISH_REASON_STOP
        return self._grace if complete else min(self._grace, SHORT_GRACE)

    def _keys(self, org: Org, key: CacheKey, at: Moment) -> list[str]:
        flight = f"{self._names.partition(org)}:{at.epoch}:{self._names.entry_suffix(org, key)}:f:{at.mark}"
        return [flight, f"{flight}:t"]
