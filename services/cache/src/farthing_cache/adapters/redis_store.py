"""Answers in Redis."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, Final, Self

from google.protobuf.message import DecodeError
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from farthing.cache.v1.cache_service_pb2 import CachedAnswer
from farthing_cache.adapters.keys import KeyNames
from farthing_cache.domain.answer import Answer, CacheKey, Entry, Epoch, Org
from farthing_cache.domain.breaker import Breaker
from farthing_cache.domain.errors import redis_unavailable
from farthing_cache.wire import answer_from_message, answer_to_message
from farthing_kit import deadline
from farthing_kit.clock import Clock

IDEMPOTENCY_WINDOW: Final = timedelta(days=1)

# The epoch begins at Redis's own time in milliseconds. So a partition whose epoch was lost (evicted, or Redis came back
# empty) gets a number that was never used before, and an entry of an older epoch can never come alive again.
_EPOCH_OR_NEW: Final = """
local epoch = redis.call('GET', KEYS[1])
if not epoch then
  local now = redis.call('TIME')
  epoch = now[1] .. string.format('%03d', math.floor(now[2] / 1000))
  redis.call('SET', KEYS[1], epoch)
end
"""

# Epoch and entry in one round trip. The entry's key depends on the epoch, so it cannot be declared in KEYS; it shares
# the hash tag of KEYS[1], hence its slot.
FIND: Final = (
    _EPOCH_OR_NEW
    + """
local name = ARGV[1] .. ':' .. epoch .. ':' .. ARGV[2]
local value = redis.call('GET', name)
if not value then return {epoch} end
return {epoch, value, redis.call('PTTL', name)}
"""
)

KEEP: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PX', ARGV[3])
return 1
"""

FORGET: Final = (
    """
local done = redis.call('GET', KEYS[2])
if done then return done end
"""
    + _EPOCH_OR_NEW
    + """
epoch = redis.call('INCR', KEYS[1])
redis.call('SET', KEYS[2], epoch, 'PX', ARGV[1])
return epoch
"""
)


class RedisStore:
    """The AnswerStore port over Redis 7 or newer, one round trip a method, and never a wait of more than `timeout_s`.

    Redis evicts nothing, and accounting keeps its reservations there: so the cache leaves it room. Above `memory_share`
    of Redis's memory nothing new is kept, until entries have expired.
    """

    def __init__(
        self,
        redis: Redis,
        names: KeyNames,
        *,
        clock: Clock,
        breaker: Breaker,
        timeout_s: float,
        memory_share: float = 1.0,
    ) -> None:
        self._redis = redis
        self._names = names
        self._clock = clock
        self._breaker = breaker
        self._timeout_s = timeout_s
        self._memory_share = memory_share
        self._full = False
        self._find = redis.register_script(FIND)
        self._keep = redis.register_script(KEEP)
        self._forget = redis.register_script(FORGET)

    async def find(self, org: Org, key: CacheKey) -> tuple[Epoch, Entry | None]:
        names = self._names
        found = await self._ask(
            lambda: self._find(keys=[names.epoch(org)], args=[names.partition(org), names.entry_suffix(org, key)])
        )
        return Epoch(int(found[0])), _entry(found[1], found[2]) if len(found) > 1 else None

    async def keep(self, org: Org, key: CacheKey, answer: Answer, epoch: Epoch, time_to_live: timedelta) -> bool:
        if self._full:
            return False
        names = self._names
        entry = f"{names.partition(org)}:{epoch}:{names.entry_suffix(org, key)}"
        value = answer_to_message(answer).SerializeToString()
        kept = await self._ask(
            lambda: self._keep(keys=[names.epoch(org), entry], args=[epoch, value, _millis(time_to_live)])
        )
        return bool(kept)

    async def forget(self, org: Org, idempotency_key: str) -> Epoch:
        keys = [self._names.epoch(org), self._names.invalidation(org, idempotency_key)]
        return Epoch(int(await self._ask(lambda: self._forget(keys=keys, args=[_millis(IDEMPOTENCY_WINDOW)]))))

    async def measure(self) -> bool:
        """Ask Redis how full it is, whatever the breaker thinks; whether it answered. Call it now and then."""
        try:
            async with asyncio.timeout(self._timeout_s):
                memory = await self._redis.info("memory")
        except (RedisError, OSError, TimeoutError):
            return False
        limit = memory.get("maxmemory", 0)
        self._full = limit > 0 and memory["used_memory"] >= limit * self._memory_share
        return True

    async def close(self) -> None:
        """Close the connections."""
        await self._redis.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        wait_s = self._breaker.wait_s(self._clock.monotonic())
        if wait_s > 0:
            raise redis_unavailable(retry_after_s=wait_s)
        left_s = deadline.remaining_s()
        try:
            async with asyncio.timeout(self._timeout_s if left_s is None else min(self._timeout_s, left_s)):
                answer = await call()
        # The causes are dropped: redis-py quotes the address, and sometimes the command, in its messages.
        except ResponseError:
            # Redis is there and said no (out of memory, a read-only replica): no reason to stop reading.
            raise redis_unavailable(retry_after_s=self._breaker.pause_s) from None
        except (RedisError, OSError, TimeoutError):
            self._breaker.failed(self._clock.monotonic())
            raise redis_unavailable(retry_after_s=self._breaker.pause_s) from None
        self._breaker.succeeded()
        return answer


def connect(url: str, *, timeout_s: float, max_connections: int, password: str | None = None) -> Redis:
    """A client that does not retry: a cache that is slow to say no is worse than a miss. Steps are timed by the store
    as a whole, so redis-py's own timers, one for each read, are off; a step that is cut short gives its connection
    up."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=max_connections,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        **({"password": password} if password else {}),
    )
    return Redis.from_pool(pool)


def _entry(value: bytes, millis: int) -> Entry | None:
    try:
        message = CachedAnswer.FromString(value)
    except DecodeError:
        return None  # written by something else: as good as not there
    return Entry(answer_from_message(message), timedelta(milliseconds=millis))


def _millis(span: timedelta) -> int:
    return max(1, round(span.total_seconds() * 1000))
