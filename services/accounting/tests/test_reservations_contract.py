"""What every implementation of Reservations promises: run on the model and on Redis."""

from __future__ import annotations

from datetime import timedelta

import pytest

from farthing_accounting.domain.budgets import Counter, Limit
from farthing_accounting.domain.reservations import (
    MAX_EXTENSIONS,
    Closed,
    CountersMissing,
    Held,
    LedgerPosition,
    LimitsOutdated,
    Mismatch,
    Quantity,
    Refused,
    ReservationState,
    Spent,
)
from farthing_accounting.domain.windows import Window, period_of
from farthing_accounting.ports import Reservations
from farthing_kit.money import NanoUsd
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import Tokens
from services.accounting.tests.builders import (
    ADA,
    BOB,
    START,
    budget,
    extension,
    hold,
    key_scope,
    limits,
    org_scope,
    settlement,
    team_scope,
)
from services.accounting.tests.conftest import Books

DAY = limits(budget(money=NanoUsd(1_000)))
(LIMIT,) = DAY


async def load(store: Reservations, *wanted: Limit, amount: int = 0, tokens: int = 0, position: int = 0) -> None:
    """Install the counters of limits with a sum from the ledger."""
    counters = [limit.counter for limit in wanted]
    missing = await store.standing("acme", counters)
    assert isinstance(missing, CountersMissing)
    spent = tuple(Spent(counter, NanoUsd(amount), Tokens(tokens)) for counter in counters)
    assert await store.install("acme", missing.incarnation, LedgerPosition(position, spent))


async def standing(store: Reservations, counter: Counter = LIMIT.counter) -> tuple[int, int, int, int, int]:
    answer = await store.standing("acme", [counter])
    assert not isinstance(answer, CountersMissing)
    (found,) = answer
    return found.spent, found.spent_tokens, found.held, found.held_tokens, found.in_flight


async def test_a_reservation_without_limits_is_held(reservations: Reservations) -> None:
    held = await reservations.reserve(hold(), (), 0)
    assert held == Held("r1", NanoUsd(100), Tokens(10), START + timedelta(seconds=60), (), "small", 2)


async def test_what_redis_does_not_know_is_asked_for_and_nothing_is_held(reservations: Reservations) -> None:
    both = limits(budget(money=NanoUsd(1_000)), budget(team_scope(), Window.MONTH, tokens=50))
    answer = await reservations.reserve(hold(), both, 0)
    assert isinstance(answer, CountersMissing)
    assert answer.counters == tuple(limit.counter for limit in both)
    await load(reservations, *both)
    assert (await standing(reservations))[2:] == (0, 0, 0)


async def test_what_is_left_is_told_of_each_limit(reservations: Reservations) -> None:
    three = limits(
        budget(money=NanoUsd(1_000)),
        budget(team_scope(), Window.DAY, tokens=500),
        budget(team_scope(), Window.MONTH, money=NanoUsd(700)),
    )
    await load(reservations, *three)
    first = await reservations.reserve(hold("r1", 150), three, 0)
    again = await reservations.reserve(hold("r1", 150), three, 0)
    assert isinstance(first, Held)
    assert isinstance(again, Held)
    assert first.left == again.left == (850, None, 550)
    assert first.remaining == 550


async def test_spent_and_held_count_against_the_limit(reservations: Reservations) -> None:
    await load(reservations, LIMIT, amount=800)
    held = await reservations.reserve(hold("r1", 150), DAY, 0)
    assert isinstance(held, Held)
    assert (held.remaining, held.left) == (50, (50,))
    assert await reservations.reserve(hold("r2", 51), DAY, 0) == Refused(LIMIT.counter, Quantity.MONEY, 50)
    assert isinstance(await reservations.reserve(hold("r3", 50), DAY, 0), Held)


async def test_a_refusal_in_one_scope_holds_nothing_in_the_others(reservations: Reservations) -> None:
    wide, narrow = limits(budget(money=NanoUsd(1_000)), budget(key_scope(), tokens=5))
    await load(reservations, wide, narrow)
    answer = await reservations.reserve(hold(tokens=6), (wide, narrow), 0)
    assert answer == Refused(narrow.counter, Quantity.TOKENS, 5)
    assert await standing(reservations, wide.counter) == (0, 0, 0, 0, 0)


async def test_the_concurrency_limit_counts_open_reservations(reservations: Reservations) -> None:
    two = limits(budget(concurrency=2))
    await load(reservations, *two)
    assert isinstance(await reservations.reserve(hold("r1"), two, 0), Held)
    assert isinstance(await reservations.reserve(hold("r2"), two, 0), Held)
    assert await reservations.reserve(hold("r3"), two, 0) == Refused(two[0].counter, Quantity.CONCURRENCY, 0)
    assert await reservations.release("acme", "r1")
    assert isinstance(await reservations.reserve(hold("r3"), two, 0), Held)


async def test_a_hit_holds_money_and_neither_tokens_nor_a_place(reservations: Reservations) -> None:
    full = limits(budget(money=NanoUsd(1_000), tokens=10, concurrency=1))
    await load(reservations, *full, tokens=11)
    await reservations.reserve(hold("r1"), (), 0)
    assert isinstance(await reservations.reserve(hold("h1", 300, 0, places=0), full, 0), Held)
    assert (await standing(reservations, full[0].counter))[2:] == (400, 10, 1)
    refused = await reservations.reserve(hold("h2", 601, 0, places=0), full, 0)
    assert refused == Refused(full[0].counter, Quantity.MONEY, 600)
    assert await reservations.release("acme", "r1")
    assert (await standing(reservations, full[0].counter))[2:] == (300, 0, 0)
    await reservations.settle([settlement(1, "h1", 290, 0)])
    assert (await standing(reservations, full[0].counter)) == (290, 11, 0, 0, 0)


async def test_only_the_scopes_of_a_principal_are_touched(reservations: Reservations) -> None:
    of_bob = limits(budget(team_scope("ads"), money=NanoUsd(100)), principal=BOB)
    await load(reservations, *of_bob)
    assert isinstance(await reservations.reserve(hold("r1", 1_000_000), (), 0), Held)
    assert isinstance(await reservations.reserve(hold("r2", 100, principal=BOB), of_bob, 0), Held)


async def test_the_same_id_and_body_give_the_same_reservation(reservations: Reservations, clock: VirtualClock) -> None:
    await load(reservations, LIMIT)
    first = await reservations.reserve(hold(), DAY, 0)
    await clock.advance(5)
    assert await reservations.reserve(hold(), DAY, 0) == first
    assert (await standing(reservations))[4] == 1


async def test_the_same_id_with_another_body_is_refused(reservations: Reservations) -> None:
    await reservations.reserve(hold(), (), 0)
    assert await reservations.reserve(hold(digest="another"), (), 0) == Mismatch()
    assert await reservations.find("acme", "r1") == ("small", 2)


async def test_a_reservation_expires_by_itself(reservations: Reservations, clock: VirtualClock) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold("r1", 1_000), DAY, 0)
    await clock.advance(59)
    assert isinstance(await reservations.reserve(hold("r2", 1), DAY, 0), Refused)
    await clock.advance(1)
    assert (await standing(reservations))[4] == 0
    assert await reservations.reserve(hold("r1", 1_000), DAY, 0) == Closed(ReservationState.EXPIRED)
    assert await reservations.extend(extension(), DAY, 0) == Closed(ReservationState.EXPIRED)


async def test_what_expired_goes_on_counting_for_as_long_as_its_usage_may_still_be_booked(
    reservations: Reservations, clock: VirtualClock, books: Books
) -> None:
    """The fold stands still for hours: the budget is never filled up again; only the place is free."""
    both = limits(budget(money=NanoUsd(1_000), tokens=100, concurrency=1))
    await load(reservations, *both)
    await reservations.reserve(hold("r1", 1_000), both, 0)
    for _ in range(12):
        await clock.advance(3_600)
        assert await standing(reservations, both[0].counter) == (0, 0, 1_000, 10, 0)
        refused = await reservations.reserve(hold("r2", 1), both, 0)
        assert isinstance(refused, Refused)
        assert refused.quantity is Quantity.MONEY
    books.lapse = START + timedelta(seconds=59)
    assert await standing(reservations, both[0].counter) == (0, 0, 1_000, 10, 0)
    books.lapse = START + timedelta(seconds=60)
    assert await standing(reservations, both[0].counter) == (0, 0, 0, 0, 0)
    assert isinstance(await reservations.reserve(hold("r3", 1_000), both, 0), Held)


async def test_a_booking_ends_the_wait_for_it(reservations: Reservations, clock: VirtualClock, books: Books) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold("r1", 600), DAY, 0)
    await reservations.extend(extension("r1", amount=10), DAY, 0)
    await clock.advance(61)
    await reservations.settle([settlement(1)])
    assert await standing(reservations) == (70, 7, 0, 0, 0)
    books.lapse = clock.now()
    assert await standing(reservations) == (70, 7, 0, 0, 0)


async def test_who_gives_back_what_expired_gets_it_back(reservations: Reservations, clock: VirtualClock) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold("r1", 600), DAY, 0)
    await clock.advance(61)
    assert await reservations.release("acme", "r1")
    assert await standing(reservations) == (0, 0, 0, 0, 0)
    assert await reservations.reserve(hold("r1", 600), DAY, 0) == Closed(ReservationState.RELEASED)


async def test_settling_closes_the_reservation_and_adds_what_was_spent(reservations: Reservations) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold(), DAY, 0)
    await reservations.settle([settlement(1)])
    assert await standing(reservations) == (70, 7, 0, 0, 0)
    assert await reservations.reserve(hold(), DAY, 0) == Closed(ReservationState.SETTLED)
    assert not await reservations.release("acme", "r1")


async def test_what_cost_more_than_was_held_is_counted_in_full_and_the_next_is_refused(
    reservations: Reservations,
) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold(amount=100), DAY, 0)
    await reservations.settle([settlement(1, amount=1_200, tokens=90)])
    assert await standing(reservations) == (1_200, 90, 0, 0, 0)
    assert isinstance(await reservations.reserve(hold("r2", 1), DAY, 0), Refused)


async def test_two_bookings_both_count(reservations: Reservations) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold("r1"), DAY, 0)
    await reservations.reserve(hold("r2"), DAY, 0)
    await reservations.settle([settlement(1, "r1"), settlement(2, "r2")])
    assert await standing(reservations) == (140, 14, 0, 0, 0)


async def test_settling_twice_is_once(reservations: Reservations) -> None:
    await load(reservations, LIMIT)
    await reservations.settle([settlement(1), settlement(1)])
    await reservations.settle([settlement(1)])
    assert await standing(reservations) == (70, 7, 0, 0, 0)


async def test_settling_an_expired_reservation_still_adds(reservations: Reservations, clock: VirtualClock) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold(), DAY, 0)
    await clock.advance(61)
    await reservations.settle([settlement(1)])
    assert await standing(reservations) == (70, 7, 0, 0, 0)


@pytest.mark.parametrize("reservation_id", ["", "r1"])
async def test_settling_what_was_never_reserved_still_adds(reservations: Reservations, reservation_id: str) -> None:
    await load(reservations, LIMIT)
    await reservations.settle([settlement(1, reservation_id)])
    assert await standing(reservations) == (70, 7, 0, 0, 0)


async def test_a_reserve_that_arrives_after_its_settlement_holds_nothing(reservations: Reservations) -> None:
    await reservations.settle([settlement(1)])
    assert await reservations.reserve(hold(), (), 0) == Closed(ReservationState.SETTLED)


async def test_money_is_added_to_the_window_in_which_the_request_ended(reservations: Reservations) -> None:
    yesterday = Counter(org_scope(), period_of(Window.DAY, START - timedelta(seconds=1)))
    old = Limit(yesterday, NanoUsd(1_000), None, None)
    await load(reservations, LIMIT, old)
    await reservations.settle([settlement(1, end_time=START - timedelta(seconds=1))])
    assert await standing(reservations) == (0, 0, 0, 0, 0)
    assert await standing(reservations, yesterday) == (70, 7, 0, 0, 0)


async def test_more_is_spent_than_a_double_holds(reservations: Reservations) -> None:
    await load(reservations, LIMIT)
    big = 2**60 + 1
    await reservations.settle([settlement(1, "", big), settlement(2, "", 2)])
    assert isinstance(await reservations.reserve(hold(amount=0), DAY, 0), Refused)


async def test_releasing_gives_everything_back(reservations: Reservations) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold(), DAY, 0)
    assert await reservations.release("acme", "r1")
    assert await reservations.release("acme", "r1")
    assert await standing(reservations) == (0, 0, 0, 0, 0)
    assert await reservations.reserve(hold(), DAY, 0) == Closed(ReservationState.RELEASED)


async def test_a_reserve_that_arrives_after_its_release_holds_nothing(reservations: Reservations) -> None:
    assert await reservations.release("acme", "r1")
    assert await reservations.reserve(hold(), (), 0) == Closed(ReservationState.RELEASED)


async def test_extending_holds_more_and_renews_the_expiry(reservations: Reservations, clock: VirtualClock) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold(), DAY, 0)
    await clock.advance(50)
    longer = await reservations.extend(extension(), DAY, 0)
    assert longer == Held("r1", NanoUsd(110), Tokens(11), START + timedelta(seconds=110), (NanoUsd(890),), "small", 2)
    await clock.advance(50)
    assert await standing(reservations) == (0, 0, 110, 11, 1)


async def test_extending_twice_with_one_key_is_once(reservations: Reservations) -> None:
    await reservations.reserve(hold(), (), 0)
    first = await reservations.extend(extension(), (), 0)
    assert await reservations.extend(extension(), (), 0) == first
    assert await reservations.extend(extension(digest="another"), (), 0) == Mismatch()


async def test_a_refused_extension_changes_nothing(reservations: Reservations) -> None:
    await load(reservations, LIMIT)
    await reservations.reserve(hold(), DAY, 0)
    answer = await reservations.extend(extension(amount=901), DAY, 0)
    assert answer == Refused(LIMIT.counter, Quantity.MONEY, 900)
    assert await standing(reservations) == (0, 0, 100, 10, 1)


async def test_an_extension_takes_no_second_place(reservations: Reservations) -> None:
    one = limits(budget(concurrency=1))
    await load(reservations, *one)
    await reservations.reserve(hold(), one, 0)
    assert isinstance(await reservations.extend(extension(), one, 0), Held)
    none = limits(budget(concurrency=0))
    assert isinstance(await reservations.extend(extension(key="x2"), none, 0), Held)


async def test_extensions_have_a_limit(reservations: Reservations) -> None:
    await reservations.reserve(hold(), (), 0)
    for number in range(MAX_EXTENSIONS):
        assert isinstance(await reservations.extend(extension(key=f"x{number}"), (), 0), Held)
    assert await reservations.extend(extension(key="one more"), (), 0) == Refused(None, Quantity.EXTENSIONS, 0)


async def test_what_is_closed_or_unknown_cannot_be_extended(reservations: Reservations) -> None:
    assert await reservations.extend(extension(), (), 0) == Closed(ReservationState.UNKNOWN)
    await reservations.reserve(hold(), (), 0)
    await reservations.release("acme", "r1")
    assert await reservations.extend(extension(), (), 0) == Closed(ReservationState.RELEASED)


async def test_the_reservation_of_another_cannot_be_extended(reservations: Reservations) -> None:
    await reservations.reserve(hold(), (), 0)
    assert await reservations.extend(extension(principal=BOB), (), 0) == Closed(ReservationState.UNKNOWN)


async def test_older_limits_than_announced_are_refused(reservations: Reservations) -> None:
    await reservations.announce_limits("acme", 7)
    await reservations.announce_limits("acme", 6)
    assert await reservations.reserve(hold(), (), 6) == LimitsOutdated()
    assert isinstance(await reservations.reserve(hold(), (), 7), Held)


async def test_a_counter_that_is_loaded_is_not_loaded_again(reservations: Reservations) -> None:
    await load(reservations, LIMIT, amount=10, position=1)
    missing = await reservations.reserve(hold(), limits(budget(tokens=1, window=Window.MONTH)), 0)
    assert isinstance(missing, CountersMissing)
    late = LedgerPosition(5, (Spent(LIMIT.counter, NanoUsd(999), Tokens(0)),))
    assert await reservations.install("acme", missing.incarnation, late)
    assert (await standing(reservations))[0] == 10


async def test_a_settlement_before_the_load_is_not_lost(reservations: Reservations) -> None:
    """Someone read the ledger up to 3; 4 is booked and settled; then the old sum must not be installed."""
    missing = await reservations.reserve(hold(), DAY, 0)
    assert isinstance(missing, CountersMissing)
    await reservations.settle([settlement(4)])
    old = LedgerPosition(3, (Spent(LIMIT.counter, NanoUsd(0), Tokens(0)),))
    assert not await reservations.install("acme", missing.incarnation, old)
    new = LedgerPosition(4, (Spent(LIMIT.counter, NanoUsd(70), Tokens(7)),))
    assert await reservations.install("acme", missing.incarnation, new)
    assert (await standing(reservations))[0] == 70


async def test_a_settlement_after_the_load_is_not_counted_twice(reservations: Reservations) -> None:
    """4 is booked, the sum up to 4 is installed, then 4 is settled."""
    await load(reservations, LIMIT, amount=70, position=4)
    await reservations.settle([settlement(4), settlement(5)])
    assert (await standing(reservations))[0] == 140


async def test_a_recount_forgets_the_counters_so_that_the_ledger_is_asked(reservations: Reservations) -> None:
    await load(reservations, LIMIT, position=1)
    await reservations.settle([settlement(2)])
    await reservations.settle([settlement(2)], recount=True)
    assert isinstance(await reservations.standing("acme", [LIMIT.counter]), CountersMissing)


async def test_an_organisation_knows_nothing_of_another(reservations: Reservations) -> None:
    await reservations.reserve(hold(), (), 0)
    assert await reservations.find("globex", "r1") is None
    other = hold(principal=ADA.__class__("globex"), digest="another")
    assert isinstance(await reservations.reserve(other, (), 0), Held)
