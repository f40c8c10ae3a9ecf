"""Whatever is known of a request reaches the cache: a field that is new and not sent fails here."""

from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from farthing.cache.v1 import cache_service_pb2 as cache_pb
from farthing_gateway.adapters.cache import GrpcCache, Timeouts
from farthing_gateway.domain.cachekey import CacheKey
from farthing_gateway.domain.model import FinishReason, Task, Tier
from farthing_gateway.domain.similar import Meaning, Terms
from farthing_gateway.ports import Found, Kept, Wanted
from farthing_kit.money import NanoUsd
from farthing_kit.usage import TokenUsage
from services.gateway.tests.values import answer

KEY = CacheKey(b"c" * 32, b"p" * 32)
HOUR = timedelta(hours=1)


class Recorder:
    """Stands in for the stub of the cache, and keeps the requests."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def __getattr__(self, method: str) -> Any:
        async def call(request: Any, timeout: float) -> Any:
            self.sent.append(request)
            return getattr(cache_pb, f"{method}Response")()

        return call


MEANING = Meaning(bytes(4 * 384), b"e" * 32, "What?", has_history=False, truncated=False)
TERMS = Terms(Task.CHAT, Tier.SMALL, 0.02, HOUR, 0.9)
FOUND = Found(3, mark=2, lease=b"l")
KEPT = Kept(answer(), FOUND, HOUR, MEANING, ("docs",), NanoUsd(7), 0.5)
WANTED = Wanted(HOUR, claim=True, prefix=b"p")
OTHER: dict[type, Callable[[Any], Any]] = {
    bool: lambda value: not value,
    int: lambda value: value + 1,
    float: lambda value: value / 2,
    str: lambda value: f"{value}x",
    bytes: lambda value: value + b"x",
    tuple: lambda value: (*value, "x"),
    timedelta: lambda value: value / 2,
    datetime: lambda value: value + HOUR,
    Task: lambda _: Task.QUESTION_ANSWERING,
    Tier: lambda _: Tier.LARGE,
    FinishReason: lambda _: FinishReason.LENGTH,
    TokenUsage: lambda value: replace(value, output=value.output + 1),
}
# Not for the cache, or told by the answer's absence.
UNSENT = {("Found", "answer"), ("Found", "time_to_live"), ("Found", "follow")}


def changes(value: Any) -> Iterator[tuple[str, Any]]:
    """The value with one of its fields changed, each in turn; those of what it holds too."""
    for each in fields(value):
        held = getattr(value, each.name)
        if (type(value).__name__, each.name) in UNSENT:
            continue
        if type(held) in OTHER:
            yield f"{type(value).__name__}.{each.name}", replace(value, **{each.name: OTHER[type(held)](held)})
        else:
            for name, changed in changes(held):
                yield name, replace(value, **{each.name: changed})


async def sent(value: Any) -> Any:
    cache, stub = GrpcCache.__new__(GrpcCache), Recorder()
    cache._stub, cache._timeouts = stub, Timeouts(1.0, 1.0, 1.0)  # type: ignore[assignment]
    match value:
        case Wanted():
            await cache.look_up(KEY, value)
        case Terms():
            await cache.search(KEY, MEANING, value)
        case Meaning():
            await cache.search(KEY, value, TERMS)
        case Kept():
            await cache.store(KEY, value)
        case Found():
            await cache.release(KEY, value)
        case CacheKey():
            await cache.look_up(value, WANTED)
    [request] = stub.sent
    return request.SerializeToString(deterministic=True)


@pytest.mark.parametrize("value", [WANTED, TERMS, MEANING, KEPT, FOUND], ids=lambda value: type(value).__name__)
async def test_every_field_reaches_the_cache(value: Any) -> None:
    plain = await sent(value)
    for name, changed in changes(value):
        assert await sent(changed) != plain, name
