"""Holds and counters in Redis: one Lua script for each operation, all keys of an organisation in one slot."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any, Final

from redis.asyncio import Redis
from redis.commands.core import AsyncScript

from farthing_accounting.adapters.redis.guard import guarded
from farthing_accounting.adapters.redis.losses import Life, Mine, life_of
from farthing_accounting.domain.budgets import Counter, Limit, counters_of
from farthing_accounting.domain.reservations import (
    MAX_EXTENSIONS,
    NEVER,
    Answer,
    Closed,
    CountersMissing,
    Extension,
    Held,
    Hold,
    LedgerPosition,
    LimitsOutdated,
    Mismatch,
    Obstacle,
    Quantity,
    Refused,
    ReservationState,
    Settlement,
    Standing,
)
from farthing_accounting.domain.scopes import scopes_of
from farthing_kit.breaker import Breaker
from farthing_kit.clock import Clock, SystemClock
from farthing_kit.errors import StoreUnavailable
from farthing_kit.money import NanoUsd
from farthing_kit.store_guard import StoreGuard
from farthing_kit.usage import Tokens

# Held sums must outlive every reservation in them, also those that await a booking while the books stand still; see
# reserve.lua for what depends on it.
_HELD_KEEP: Final = timedelta(days=8)
# Longer than any counter is kept, so that the newest settled position is never forgotten before a counter is.
_META_KEEP: Final = timedelta(days=40)
_COUNTER_KEEP_AFTER_END: Final = timedelta(hours=1)
# A step has a limit of time: as many as a slow machine can still do in it.
_SETTLED_AT_ONCE: Final = 64
_FIELDS_OF_STANDING: Final = 5


@dataclass(frozen=True, slots=True)
class Keep:
    """How long what is over is remembered: a settled or released reservation, the mark of a settlement. As long as
    something about it may still be under way to Redis: a repeated Reserve, a settlement that is sent again."""

    closed: timedelta = timedelta(minutes=2)


# What frees memory, or asks, must be possible when Redis is full; what takes memory is refused before it does anything.
_ALWAYS: Final = "#!lua flags=allow-oom\n"
_WITH_ROOM: Final = "#!lua\n"


def _script(name: str, head: str) -> str:
    folder = resources.files("farthing_accounting.adapters.redis") / "lua"
    return head + (folder / "shared.lua").read_text() + (folder / f"{name}.lua").read_text()


class RedisReservations:
    """`clock` is for tests: without one, the time of the Redis server decides what has expired. `on_expired` is told
    how many reservations a script found expired. Those that expired before `lapse()` do not await a booking any more:
    never, without it. Counters that were loaded in another `ledger_life` are not trusted."""

    def __init__(
        self,
        redis: Redis,
        *,
        keep: Keep | None = None,
        clock: Clock | None = None,
        on_expired: Callable[[int], None] | None = None,
        lapse: Callable[[], datetime] = lambda: NEVER,
        window: timedelta = timedelta(seconds=3),
        ledger_life: Callable[[], str] = lambda: "",
        guard: StoreGuard | None = None,
    ) -> None:
        self._redis = redis
        self._guard = guard or guarded(Breaker(threshold=3, pause_s=0.5), SystemClock(), timeout_s=2.0)
        self._clock = clock
        self._on_expired = on_expired or _ignore
        self._lapse = lapse
        self._window = window
        self._ledger_life = ledger_life
        self._mine = Mine()
        self._life: Life | None = None
        self._common: dict[str, Any] = {
            "meta_keep_ms": _ms(_META_KEEP),
            "held_keep_ms": _ms(_HELD_KEEP),
            "closed_keep_ms": _ms((keep or Keep()).closed),
        }
        self._reserve = redis.register_script(_script("reserve", _WITH_ROOM))
        self._extend = redis.register_script(_script("extend", _WITH_ROOM))
        self._release = redis.register_script(_script("release", _ALWAYS))
        self._settle = redis.register_script(_script("settle", _ALWAYS))
        self._install = redis.register_script(_script("install", _WITH_ROOM))
        self._standing = redis.register_script(_script("standing", _ALWAYS))
        self._bring_back = redis.register_script(_script("bring_back", _WITH_ROOM))

    async def reserve(self, hold: Hold, limits: Sequence[Limit], version: int) -> Answer | Obstacle:
        """One atomic step over every scope."""
        ask = {
            "id": hold.reservation_id,
            "digest": hold.digest,
            "amount": hold.estimate.amount,
            "tokens": hold.estimate.tokens,
            "places": hold.places,
            "ttl_ms": _ms(hold.time_to_live),
            "scopes": [scope.label for scope in scopes_of(hold.principal)],
            "model": hold.model,
            "price_version": hold.price_version,
        }
        keys = _Keys(hold.principal.org)
        answer = await self._ask(self._reserve, keys, hold.reservation_id, ask, limits, version)
        self._keep(hold.principal.org, answer, ask)
        return answer

    async def extend(self, extension: Extension, limits: Sequence[Limit], version: int) -> Answer | Obstacle:
        """One atomic step over every scope."""
        ask = {
            "id": extension.reservation_id,
            "key": extension.idempotency_key,
            "digest": extension.digest,
            "amount": extension.estimate.amount,
            "tokens": extension.estimate.tokens,
            "ttl_ms": _ms(extension.time_to_live),
            "scopes": [scope.label for scope in scopes_of(extension.principal)],
            "max_extensions": MAX_EXTENSIONS,
        }
        keys = _Keys(extension.principal.org)
        answer = await self._ask(self._extend, keys, extension.reservation_id, ask, limits, version)
        self._keep(extension.principal.org, answer)
        return answer

    async def find(self, org: str, reservation_id: str) -> tuple[str, int] | None:
        """Model and price version of a reservation."""
        record = _Keys(org).record(reservation_id)
        async with self._guard.step():
            model, version = await _awaited(self._redis.hmget(record, ["mo", "pv"]))
        return None if version is None else (_text(model), int(version))

    async def release(self, org: str, reservation_id: str) -> bool:
        """Give back, or mark as given back. Sent also to a Redis that hangs: it is how to be rid of what a Reserve may
        have left there without an answer."""
        keys = _Keys(org)
        ask = {"id": reservation_id}
        self._mine.forget(org, reservation_id)
        reply = await self._run(self._release, keys, keys.of(reservation_id), ask, always=True)
        return _text(reply[0]) == "released"

    async def settle(self, settlements: Sequence[Settlement], *, recount: bool = False) -> None:
        """Many in one round trip; each is atomic by itself."""
        for start in range(0, len(settlements), _SETTLED_AT_ONCE):
            await self._settle_some(settlements[start : start + _SETTLED_AT_ONCE], recount)

    async def _settle_some(self, settlements: Sequence[Settlement], recount: bool) -> None:
        async with self._guard.step(), self._redis.pipeline(transaction=False) as pipe:
            for settlement in settlements:
                keys, ask = self._settlement(settlement, recount)
                await self._settle(keys=keys, args=[self._encoded(_Keys(settlement.principal.org), ask)], client=pipe)
            replies = await pipe.execute()
        self._count(sum(int(reply[1]) for reply in replies))
        for settlement in settlements:
            self._mine.forget(settlement.principal.org, settlement.reservation_id)

    async def look(self) -> bool:
        """Whether Redis lost what it held, or the last of it, since this was asked last: then what this replica holds
        is brought back. Asked now and then, and before a counter is loaded."""
        now_ms = int(self._clock.now().timestamp() * 1000) if self._clock else None
        async with self._guard.step():
            life = await life_of(self._redis, now_ms, self._life, self._window)
        lost = self._life is not None and life != self._life
        if lost:
            mine = list(self._mine.awaited(self._lapse()))
            for start in range(0, len(mine), _SETTLED_AT_ONCE):
                await self._bring_some_back(mine[start : start + _SETTLED_AT_ONCE])
        self._life = life
        return lost

    async def _bring_some_back(self, mine: Sequence[tuple[str, dict[str, Any]]]) -> None:
        async with self._guard.step(), self._redis.pipeline(transaction=False) as pipe:
            for org, record in mine:
                keys = _Keys(org)
                names = [*keys.fixed, *keys.of(record["id"])]
                await self._bring_back(keys=names, args=[self._encoded(keys, record)], client=pipe)
            await pipe.execute()

    def _keep(self, org: str, answer: Answer | Obstacle, ask: dict[str, Any] | None = None) -> None:
        if isinstance(answer, Held):
            expires_ms = int(answer.expire_time.timestamp() * 1000)
            now = {"expires": expires_ms, "amount": answer.amount, "tokens": answer.tokens}
            self._mine.keep(org, answer.reservation_id, answer.expire_time, {**(ask or {}), **now}, self._lapse())

    async def install(self, org: str, incarnation: str, position: LedgerPosition) -> bool:
        """Counters that are loaded stay as they are."""
        await self.look()
        keys = _Keys(org)
        now = self._clock.now() if self._clock else datetime.now(UTC)
        sums = [
            {
                "m": str(spent.amount),
                "t": str(spent.tokens),
                "keep_ms": _ms(max(spent.counter.period.end - now, timedelta()) + _COUNTER_KEEP_AFTER_END),
            }
            for spent in position.spent
        ]
        opens_ms = self._life.opens_ms if self._life else 0
        ask = {"life": incarnation, "position": position.transaction_id, "sums": sums, "opens_ms": opens_ms}
        counters = [keys.counter(spent.counter) for spent in position.spent]
        reply = await self._run(self._install, keys, [*keys.of(""), *counters], ask, counts=False)
        return _text(reply[0]) == "installed"

    async def standing(self, org: str, counters: Sequence[Counter]) -> Sequence[Standing] | CountersMissing:
        """Where counters stand, after what has expired was given back."""
        if not counters:
            return []
        keys = _Keys(org)
        ask = {"scopes": [counter.scope.label for counter in counters]}
        reply = await self._run(self._standing, keys, [*keys.of(""), *map(keys.counter, counters)], ask)
        if _text(reply[0]) == "missing":
            return _missing(reply, counters)
        numbers = [int(value) for value in reply[2:]]
        rows = [numbers[i : i + _FIELDS_OF_STANDING] for i in range(0, len(numbers), _FIELDS_OF_STANDING)]
        return [
            Standing(counter, NanoUsd(m), Tokens(t), NanoUsd(held_m), Tokens(held_t), n)
            for counter, (m, t, held_m, held_t, n) in zip(counters, rows, strict=True)
        ]

    async def announce_limits(self, org: str, version: int) -> None:
        """Older versions of the limits are refused from now on. Versions only grow, so two announcements may cross."""
        keys = _Keys(org)
        async with self._guard.step():
            await _awaited(self._redis.eval(_ANNOUNCE, 1, keys.meta, str(version), str(_ms(_META_KEEP))))

    async def _ask(
        self,
        script: AsyncScript,
        keys: _Keys,
        reservation_id: str,
        ask: dict[str, Any],
        limits: Sequence[Limit],
        version: int,
    ) -> Answer | Obstacle:
        body = {**ask, "limits": [_limit(limit) for limit in limits], "limits_version": version}
        counters = [limit.counter for limit in limits]
        reply = await self._run(script, keys, [*keys.of(reservation_id), *map(keys.counter, counters)], body)
        return _answer(reply, reservation_id, counters)

    async def _run(
        self,
        script: AsyncScript,
        keys: _Keys,
        more: Sequence[str],
        ask: dict[str, Any],
        *,
        counts: bool = True,
        always: bool = False,
    ) -> list[Any]:
        async with self._guard.step(always=always):
            reply: list[Any] = await script(keys=[*keys.fixed, *more], args=[self._encoded(keys, ask)])
        if counts:
            self._count(int(reply[1]))
        return reply

    def _count(self, expired: int) -> None:
        if expired:
            self._on_expired(expired)

    def _encoded(self, keys: _Keys, ask: dict[str, Any]) -> str:
        record_prefix, trace_prefix = keys.of("")
        lapse = int(self._lapse().timestamp() * 1000)
        body = {**self._common, **ask, "record_prefix": record_prefix, "trace_prefix": trace_prefix, "lapse": lapse}
        body["ledger"] = self._ledger_life()
        if self._clock is not None:
            body["now"] = str(int(self._clock.now().timestamp() * 1000))
        return json.dumps(body)

    def _settlement(self, settlement: Settlement, recount: bool) -> tuple[list[str], dict[str, Any]]:
        keys = _Keys(settlement.principal.org)
        counters = [keys.counter(counter) for counter in counters_of(settlement.principal, settlement.end_time)]
        names = [*keys.fixed, *keys.of(settlement.reservation_id), *counters, keys.marker(settlement.transaction_id)]
        return names, {
            "id": settlement.reservation_id,
            "position": settlement.transaction_id,
            "amount": str(settlement.amount),
            "tokens": str(settlement.tokens),
            "recount": recount,
            "marker_at": len(names),
        }


_ANNOUNCE: Final = """#!lua flags=allow-oom
if tonumber(redis.call('HGET', KEYS[1], 'lim') or '0') < tonumber(ARGV[1]) then
  redis.call('HSET', KEYS[1], 'lim', ARGV[1])
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
"""


class _Keys:
    """The names of an organisation's keys. No name of a person and no secret is in them."""

    __slots__ = ("_prefix", "meta")

    def __init__(self, org: str) -> None:
        self._prefix = f"acct:{{{org}}}:"
        self.meta = f"{self._prefix}meta"

    @property
    def fixed(self) -> tuple[str, str, str, str]:
        return (self.meta, f"{self._prefix}held", f"{self._prefix}open", f"{self._prefix}awaiting")

    def of(self, reservation_id: str) -> tuple[str, str]:
        """The record of a reservation, and the trace that it leaves."""
        return (self.record(reservation_id), f"{self._prefix}x:{reservation_id}")

    def record(self, reservation_id: str) -> str:
        return f"{self._prefix}r:{reservation_id}"

    def marker(self, transaction_id: int) -> str:
        return f"{self._prefix}s:{transaction_id}"

    def counter(self, counter: Counter) -> str:
        return f"{self._prefix}c:{counter.label}"


def _limit(limit: Limit) -> dict[str, Any]:
    values = {"money": limit.money, "tokens": limit.tokens, "concurrency": limit.concurrency}
    return {"scope": limit.counter.scope.label} | {key: value for key, value in values.items() if value is not None}


def _answer(reply: list[Any], reservation_id: str, counters: Sequence[Counter]) -> Answer | Obstacle:
    match _text(reply[0]):
        case "held":
            return _held(reply, reservation_id)
        case "refused":
            number = int(reply[2])
            return Refused(counters[number - 1] if number else None, Quantity(_text(reply[3])), int(reply[4]))
        case "missing":
            return _missing(reply, counters)
        case "closed":
            return Closed(ReservationState(_text(reply[2])))
        case "mismatch":
            return Mismatch()
        case "outdated":
            return LimitsOutdated()
        case "recovering":
            raise _recovering(int(reply[2]))
        case other:
            raise AssertionError(f"a script said {other}")


def _recovering(left_ms: int) -> StoreUnavailable:
    return StoreUnavailable(
        "the store of budgets lost its data and is being rebuilt; try again shortly",
        metadata={"store": "redis", "cause": "Recovering"},
        retry_after_s=left_ms / 1000,
    )


def _held(reply: list[Any], reservation_id: str) -> Held:
    amount, tokens, expires, model, version, *left = (_text(value) for value in reply[2:])
    return Held(
        reservation_id=reservation_id,
        amount=NanoUsd(int(amount)),
        tokens=Tokens(int(tokens)),
        expire_time=datetime.fromtimestamp(int(expires) / 1000, UTC),
        left=tuple(NanoUsd(int(money)) if money else None for money in left),
        model=model,
        price_version=int(version),
    )


def _missing(reply: list[Any], counters: Sequence[Counter]) -> CountersMissing:
    return CountersMissing(tuple(counters[int(i) - 1] for i in reply[3:]), _text(reply[2]))


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _ms(span: timedelta) -> int:
    return span // timedelta(milliseconds=1)


def _ignore(_: int) -> None:
    """Nobody counts."""


async def _awaited(reply: Any) -> Any:
    """redis-py types its commands for both worlds; ours always awaits."""
    return await reply
