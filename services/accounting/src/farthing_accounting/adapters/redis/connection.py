"""The connection to Redis: bounded, and only to a server that forgets nothing on its own."""

from __future__ import annotations

from typing import Final

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from farthing_kit.errors import StoreUnavailable
from farthing_kit.store_guard import StoreGuard

_KEEPS_ALL: Final = "noeviction"
# A connection that Redis closed while it lay idle is made anew once, at once; more is the caller's decision.
_RETRIES: Final = 1


class EvictingRedis(Exception):
    """The server throws keys away when its memory is full; the text says what to change."""


def connect(url: str, *, password: str | None, connections: int, timeout_s: float) -> Redis:
    """A client with a pool of `connections`; opens none yet. StoreGuard times steps as a whole, so redis-py's own
    timers, one for each read and write, are off; a step that is cut short gives its connection up."""
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=connections,
        timeout=None,
        socket_timeout=None,
        socket_connect_timeout=timeout_s,
        retry=Retry(NoBackoff(), _RETRIES),
        **({"password": password} if password else {}),
    )
    return Redis.from_pool(pool)


async def require_no_eviction(redis: Redis, guard: StoreGuard) -> None:
    """What is held must not vanish under memory pressure: a refused write is seen, a lost one is not."""
    async with guard.step():
        memory = await redis.info("memory")
    if int(memory.get("maxmemory", 0)) > 0 and memory.get("maxmemory_policy") != _KEEPS_ALL:
        raise EvictingRedis(
            f"Redis would evict reservations (its maxmemory-policy is {memory.get('maxmemory_policy')}); "
            f"make that {_KEEPS_ALL}"
        )


async def takes_writes(redis: Redis, guard: StoreGuard) -> bool:
    """Whether it answers, also while it is left alone, and has memory for one more reservation."""
    try:
        async with guard.step(always=True):
            memory = await redis.info("memory")
    except StoreUnavailable:
        return False
    most = int(memory.get("maxmemory", 0))
    return most == 0 or int(memory["used_memory"]) < most


async def answers(redis: Redis, guard: StoreGuard) -> bool:
    """Whether it answers: asked also while it is left alone, and the guard learns of it."""
    try:
        async with guard.step(always=True):
            await redis.ping()
    except StoreUnavailable:
        return False
    return True
