"""What Redis may lose, and how it is noticed: a server that came back without its data, or without the last of them."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from redis.asyncio import Redis

# The only key that is nobody's: as long as it is there, and says the same, so is everything else.
MARK: Final = "acct:mark"
# Longer than anything that it stands for.
_MARK_KEEP: Final = timedelta(days=80)
_MOST: Final = 50_000


@dataclass(frozen=True, slots=True)
class Life:
    """One life of what Redis holds: the server's own name for its life, and the mark in its data. Until `opens_ms`, by
    the server's clock, whoever held something brings it back, and nobody is admitted against a limit."""

    run_id: str
    mark: str
    opens_ms: int


async def life_of(redis: Redis, now_ms: int | None, known: Life | None, window: timedelta) -> Life:
    """The life that Redis is in. Where there is no mark one is made: by who knew another, so that something was lost,
    with a window for all to bring back theirs."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.info("server")  # type: ignore[unused-awaitable]
        pipe.getex(MARK, px=_MARK_KEEP)  # type: ignore[unused-awaitable]
        server, mark = await pipe.execute()
    if mark is None:
        now_ms = int(server["server_time_usec"]) // 1000 if now_ms is None else now_ms
        opens_ms = 0 if known is None else now_ms + window // timedelta(milliseconds=1)
        await redis.set(MARK, f"{secrets.token_hex(8)}:{opens_ms}", nx=True, px=_MARK_KEEP)
        mark = await redis.get(MARK)
    text = mark.decode() if isinstance(mark, bytes) else str(mark or "lost again:0")
    return Life(str(server["run_id"]), text, int(text.rpartition(":")[2]))


class Mine:
    """The reservations that this replica made and that it has not seen end, each as it would be made again. Those that
    another replica settles stay until nothing is awaited any more: brought back, they count too much for as long."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str], tuple[datetime, dict[str, Any]]] = OrderedDict()

    def keep(self, org: str, reservation_id: str, expires: datetime, record: dict[str, Any], lapse: datetime) -> None:
        """Held, or extended; what expired before `lapse` is forgotten on the way, oldest first."""
        before = self._kept.pop((org, reservation_id), None)
        self._kept[org, reservation_id] = (expires, {**(before[1] if before else {}), **record})
        while self._kept:
            oldest, (ended, _) = next(iter(self._kept.items()))
            if ended > lapse and len(self._kept) <= _MOST:
                return
            del self._kept[oldest]

    def forget(self, org: str, reservation_id: str) -> None:
        """It was settled, or given back."""
        self._kept.pop((org, reservation_id), None)

    def awaited(self, lapse: datetime) -> Iterator[tuple[str, dict[str, Any]]]:
        """The organisation and the record of each that still counts."""
        for (org, _), (expires, record) in list(self._kept.items()):
            if expires > lapse:
                yield org, record
