"""One Redis for all stores: a step never takes longer than its time, and one that hangs is left alone."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Self

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from farthing_kit.breaker import Breaker
from farthing_kit.clock import Clock
from farthing_kit.errors import StoreUnavailable
from farthing_kit.store_guard import StoreGuard

Script = Callable[..., Awaitable[Any]]

UNAVAILABLE: Final = "the store of the cache cannot be reached; treat this as a miss"


class RedisClient:
    """Redis 7 or newer. `ask` runs one step within `timeout_s`; all failures are StoreUnavailable, within milliseconds
    while Redis is known to be away.

    What goes when room is needed is chosen here, by its worth, before Redis chooses by age. `full` says that it holds
    more than `memory_share` of its memory.
    """

    def __init__(
        self, redis: Redis, *, clock: Clock, breaker: Breaker, timeout_s: float, memory_share: float = 1.0
    ) -> None:
        self._redis = redis
        self._guard = StoreGuard(
            "redis",
            UNAVAILABLE,
            breaker=breaker,
            clock=clock,
            timeout_s=timeout_s,
            # Out of memory, a read-only replica: no reason to stop reading.
            said_no=(ResponseError,),
            away=(RedisError,),
        )
        self._memory_share = memory_share
        self.full = False

    def script(self, text: str) -> Script:
        """A Lua script, sent once and then called by its hash."""
        return self._redis.register_script(text)

    async def ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """The answer of one step."""
        async with self._guard.step():
            return await call()

    async def command(self, *words: Any) -> Any:
        """One command, as one step."""
        return await self.ask(lambda: self._redis.execute_command(*words))  # type: ignore[no-untyped-call]

    async def measure(self) -> bool:
        """Ask Redis how full it is, whatever the breaker thinks; whether it answered. Call it now and then."""
        try:
            async with self._guard.step(always=True):
                memory = await self._redis.info("memory")
        except StoreUnavailable:
            return False
        limit = memory.get("maxmemory", 0)
        self.full = limit > 0 and memory["used_memory"] >= limit * self._memory_share
        return True

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self._redis.aclose()


def connect(url: str, *, timeout_s: float, max_connections: int, password: str | None = None) -> Redis:
    """A client that does not retry: a cache that is slow to say no is worse than a miss. Steps are timed as a whole, so
    redis-py's own timers, one for each read, are off; a step that is cut short gives its connection up."""
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
