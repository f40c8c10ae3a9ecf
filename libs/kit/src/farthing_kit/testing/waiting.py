"""Waiting for a condition, which is what a test does instead of sleeping."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Final

_POLL_S: Final = 0.002


async def until(condition: Callable[[], bool | Awaitable[bool]], timeout_s: float = 10.0) -> None:
    """Return once `condition()` is true; TimeoutError if it does not become so in time."""
    async with asyncio.timeout(timeout_s):
        while not await _value(condition):  # noqa: ASYNC110 - the condition may be in another process
            await asyncio.sleep(_POLL_S)


async def _value(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    found = condition()
    return await found if inspect.isawaitable(found) else found
