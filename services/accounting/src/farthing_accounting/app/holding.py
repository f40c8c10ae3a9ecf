"""Reserve, extend, release: holding an estimate while a request runs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Final

from farthing_accounting.app.fresh import Fresh
from farthing_accounting.app.loading import MAX_ROUNDS, CounterLoading, counters_keep_changing
from farthing_accounting.domain.budgets import Budgets, Limit, limits_of
from farthing_accounting.domain.errors import (
    BudgetExceeded,
    IdempotencyMismatch,
    QuotaExceeded,
    ReservationClosed,
)
from farthing_accounting.domain.pace import budget_pace
from farthing_accounting.domain.pricing import PriceBook, Quote
from farthing_accounting.domain.principal import Principal
from farthing_accounting.domain.reservations import (
    Answer,
    Closed,
    CountersMissing,
    Extension,
    Held,
    Hold,
    LimitsOutdated,
    Mismatch,
    Obstacle,
    Quantity,
    Refused,
    ReservationState,
    body_digest,
    estimate_of,
)
from farthing_accounting.ports import Observer, Reservations
from farthing_kit.clock import Clock
from farthing_kit.money import HitPrice
from farthing_kit.usage import TokenUsage

# A place becomes free when some request ends, nobody knows when.
RETRY_PLACE_S: Final = 1.0
THE_LIST: Final = "list"

Ask = Callable[[Sequence[Limit], int], Awaitable[Answer | Obstacle]]


class Holding:
    """Prices an estimate and holds it in every scope of a principal at once."""

    def __init__(
        self,
        reservations: Reservations,
        loading: CounterLoading,
        budgets: Fresh[str, Budgets],
        prices: Fresh[str, PriceBook],
        clock: Clock,
        observer: Observer,
    ) -> None:
        self._reservations = reservations
        self._loading = loading
        self._budgets = budgets
        self._prices = prices
        self._clock = clock
        self._observer = observer

    async def reserve(
        self,
        principal: Principal,
        reservation_id: str,
        model: str,
        usage: TokenUsage,
        time_to_live: timedelta,
        hit_price: HitPrice | None = None,
    ) -> tuple[Held, Quote]:
        """The reservation, and the prices that it was made under; with `hit_price`, for an answer from a cache."""
        book = await self._prices.get(THE_LIST)
        quote = book.quote(model)
        hold = Hold(
            reservation_id=reservation_id,
            principal=principal,
            estimate=estimate_of(usage, quote, "estimate", hit_price),
            time_to_live=time_to_live,
            model=model,
            price_version=quote.price_version,
            digest=body_digest(principal, ("reserve", model, _us(time_to_live), *_parts(hit_price)), usage),
            places=1 if hit_price is None else 0,
        )
        held = await self._held(
            principal, reservation_id, lambda limits, v: self._reservations.reserve(hold, limits, v)
        )
        if held.price_version != quote.price_version:  # made earlier, before a price changed
            quote = await self._quote_of(held.model, held.price_version)
        return held, quote

    async def extend(
        self,
        principal: Principal,
        reservation_id: str,
        idempotency_key: str,
        additional: TokenUsage,
        time_to_live: timedelta,
    ) -> Held:
        """More tokens, at the prices that the reservation was made under."""
        found = await self._reservations.find(principal.org, reservation_id)
        if found is None:
            raise ReservationClosed(reservation_id, ReservationState.UNKNOWN.value)
        quote = await self._quote_of(*found)
        extension = Extension(
            reservation_id=reservation_id,
            principal=principal,
            idempotency_key=idempotency_key,
            estimate=estimate_of(additional, quote, "additional"),
            time_to_live=time_to_live,
            digest=body_digest(principal, ("extend", reservation_id, _us(time_to_live)), additional),
        )
        return await self._held(
            principal, idempotency_key, lambda limits, version: self._reservations.extend(extension, limits, version)
        )

    async def release(self, principal: Principal, reservation_id: str) -> None:
        """Give it back without a charge."""
        if not await self._reservations.release(principal.org, reservation_id):
            raise ReservationClosed(reservation_id, ReservationState.SETTLED.value)

    async def _quote_of(self, model: str, version: int) -> Quote:
        book = await self._prices.get(THE_LIST)
        if book.version < version:
            book = await self._prices.reload(THE_LIST)
        return book.as_of(version).quote(model)

    async def _held(self, principal: Principal, key: str, ask: Ask) -> Held:
        started = self._clock.monotonic()
        answer = await self._answer(principal, ask)
        self._observer.reserved(_outcome(answer), self._clock.monotonic() - started)
        match answer:
            case Held():
                return answer
            case Refused():
                raise self._refusal(answer)
            case Mismatch():
                raise IdempotencyMismatch(key)
            case Closed(state):
                raise ReservationClosed(key, state.value)

    async def _answer(self, principal: Principal, ask: Ask) -> Answer:
        org = principal.org
        for _ in range(MAX_ROUNDS):
            budgets = await self._budgets.get(org)
            now = self._clock.now()
            limits = limits_of(principal, budgets.budgets, now)
            answer = await ask(limits, budgets.version)
            match answer:
                case Held():
                    return replace(answer, budget_pace=budget_pace(limits, answer.left, now))
                case LimitsOutdated():
                    await self._budgets.reload(org)
                case CountersMissing():
                    await self._loading.load(org, answer)
                case _:
                    return answer
        raise counters_keep_changing()

    def _refusal(self, refused: Refused) -> BudgetExceeded | QuotaExceeded:
        remaining = max(0, refused.remaining)
        if refused.counter is None:
            return QuotaExceeded("reservation", "", refused.quantity.value, remaining, RETRY_PLACE_S)
        scope, period = refused.counter.scope.label, refused.counter.period
        window = period.window.name.lower()
        if refused.quantity is Quantity.MONEY:
            return BudgetExceeded(scope, window, remaining)
        left_s = (period.end - self._clock.now()).total_seconds()
        retry_s = RETRY_PLACE_S if refused.quantity is Quantity.CONCURRENCY else max(left_s, 0.1)
        return QuotaExceeded(scope, window, refused.quantity.value, remaining, retry_s)


def _outcome(answer: Answer) -> str:
    match answer:
        case Refused(_, quantity):
            return f"refused_{quantity.value}"
        case _:
            return type(answer).__name__.lower()


def _parts(hit_price: HitPrice | None) -> tuple[str | int, ...]:
    return () if hit_price is None else ("hit", hit_price.policy_version, hit_price.share)


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)
