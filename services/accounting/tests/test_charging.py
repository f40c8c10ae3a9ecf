"""What a caller pays for: one attempt at each request, whatever else was used, in whichever order it is heard of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import permutations
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from farthing_accounting.domain.charging import charged
from farthing_accounting.domain.ledger import Entry, book, moving
from farthing_accounting.domain.posting import Booked, PostedState, plan, posted
from farthing_accounting.domain.usage import Attempt, EventId, SupersededCall, UsageEvent
from farthing_accounting.domain.vocabulary import FinishReason
from farthing_kit.usage import TokenUsage
from services.accounting.tests.builders import START, event, hit

CANCELLED = FinishReason.CANCELLED


def used(request_id: str = "q", attempt: str = "a1", run: int = 1, begin: int = 0, **changes: Any) -> UsageEvent:
    """A call that used `output` tokens, in an attempt that began at a second, and ended a minute after that."""
    output, well = changes.pop("output", 500), changes.pop("well", True)
    over = changes.pop("over", "")
    values: dict[str, Any] = {
        "attempt": Attempt("q", attempt, START + timedelta(seconds=begin), run),
        "end_time": START + timedelta(seconds=begin + 60),
        "usage": TokenUsage(fresh_input=1_000, output=output),
        "counterfactual_usage": TokenUsage(fresh_input=1_000, output=output),
        "finish_reason": FinishReason.STOP if well else CANCELLED,
        "superseded": SupersededCall(over, TokenUsage(fresh_input=1_000, output=500)) if over else None,
    }
    return event(request_id, **{**values, **changes})


def paid(*events: UsageEvent) -> list[str]:
    """The names of what is charged, whichever order it comes in."""
    found = {frozenset(charged(book(one).call for one in order)) for order in permutations(events)}
    (only,) = found
    return sorted(f"{name.request_id} {name.attempt_id} {name.run}" for name in only)


CASES: dict[str, tuple[list[UsageEvent], list[str]]] = {
    "one call": ([used()], ["q a1 1"]),
    "one call that was cancelled": ([used(well=False)], ["q a1 1"]),
    "the caller asked again: the answer that began last": ([used(), used(attempt="a2", begin=9)], ["q a2 1"]),
    "the names of attempts say nothing about their order": ([used(attempt="z"), used(begin=9)], ["q a1 1"]),
    "two that began together": ([used(attempt="a2"), used()], ["q a2 1"]),
    "an answer counts before a later one that was cut off": (
        [used(output=1), used(attempt="a2", begin=9, well=False)],
        ["q a1 1"],
    ),
    "none was answered: the dearest": (
        [used(well=False, output=9), used(attempt="a2", begin=9, well=False, output=8)],
        ["q a1 1"],
    ),
    "an answer from a cache after all": (
        [used(well=False), hit("q", attempt=Attempt("q", "a2", START + timedelta(seconds=9), 0))],
        ["q a2 0"],
    ),
    "a model answered, and a cache when the caller asked again: the model's": (
        [used(), hit("q", attempt=Attempt("q", "a2", START + timedelta(seconds=9), 0))],
        ["q a1 1"],
    ),
    "a cache answered, and a model when the caller asked again": (
        [hit("q", attempt=Attempt("q", "a1", START, 0)), used(attempt="a2", begin=9)],
        ["q a2 1"],
    ),
    "two answers from a cache: the one that began last": (
        [
            hit("q", attempt=Attempt("q", name, START + timedelta(seconds=begin), 0))
            for name, begin in (("a1", 9), ("a2", 0))
        ],
        ["q a1 0"],
    ),
    "a run that was lost, and the next": ([used(well=False), used(run=2)], ["q a1 2"]),
    "two runs that ended well": ([used(output=900), used(run=2)], ["q a1 2"]),
    "two runs that were cut off: the dearest": ([used(well=False, output=9), used(run=2, well=False)], ["q a1 2"]),
    "a cascade": ([used(), used("q-2", over="q")], ["q a1 1", "q-2 a1 1"]),
    "a cascade of three": (
        [used(), used("q-2", over="q"), used("q-3", over="q-2")],
        ["q a1 1", "q-2 a1 1", "q-3 a1 1"],
    ),
    "a call that took the place of another without a word": (
        [used(), used("q-2", end_time=START + timedelta(hours=1))],
        ["q-2 a1 1"],
    ),
    "what was cancelled may be reported last": (
        [used(well=False, end_time=START + timedelta(hours=1)), used("q-2")],
        ["q-2 a1 1"],
    ),
    "a call that another took the place of, and that ended well after it": (
        [used(end_time=START + timedelta(hours=1)), used("q-2")],
        ["q-2 a1 1"],
    ),
    "two that supersede the same: the last": (
        [used(), used("q-2", over="q"), used("q-3", over="q", end_time=START + timedelta(hours=1))],
        ["q a1 1", "q-3 a1 1"],
    ),
    "a cascade, and the caller asked again": (
        [used(), used("q-2", over="q"), used(attempt="a2", begin=9)],
        ["q a2 1"],
    ),
    "a cascade, and one that the caller left while the larger model answered": (
        [
            *(used(), used("q-2", over="q")),
            *(used(attempt="a2", begin=9), used("q-2", attempt="a2", begin=9, over="q", output=1, well=False)),
        ],
        ["q a1 1", "q-2 a1 1"],
    ),
    "two cascades that the caller left: the dearer": (
        [
            *(used(), used("q-2", over="q", output=9, well=False)),
            *(used(attempt="a2", begin=9), used("q-2", attempt="a2", begin=9, over="q", output=1, well=False)),
        ],
        ["q a1 1", "q-2 a1 1"],
    ),
    "a first call that was not heard of yet": ([used("q-2", over="q")], ["q-2 a1 1"]),
    "calls that supersede each other": ([used(over="q-2"), used("q-2", over="q")], ["q a1 1", "q-2 a1 1"]),
    "an older release booked it, a newer one again": ([used(attempt=""), used()], ["q a1 1"]),
}


@pytest.mark.parametrize("case", CASES)
def test_one_attempt_is_charged_in_whichever_order_it_comes(case: str) -> None:
    events, expected = CASES[case]
    assert paid(*events) == expected


def test_nothing_of_nothing_is_charged() -> None:
    assert charged([]) == frozenset()


# --- the books, in memory: what a plan does, batch by batch


class Books:
    """Follows plans: what stands where, what each account owes, and what counters were told."""

    def __init__(self) -> None:
        self.events: dict[EventId, Booked] = {}
        self.owed: dict[str, int] = {}
        self.counted = 0
        self.last = 0

    def post(self, *batch: UsageEvent) -> list[PostedState]:
        bookings = [book(one) for one in batch]
        known = list(self.events.values())
        made = plan(bookings, known)
        ids = {name: self._next() for name in [*made.new, *(move.booked.call.id for move in made.moves)]}
        for name, new in made.new.items():
            self._owe(new.booking.entries if new.charged else new.booking.wasted)
            one = new.booking.event
            self.events[name] = Booked(
                call=new.booking.call,
                digest=one.digest(),
                caller_request=one.caller_request,
                principal=one.principal,
                tokens=one.usage.total,
                transaction_id=ids[name],
                newest=ids[name],
                moves=0,
                charged=new.charged,
            )
        for move in made.moves:
            name = move.booked.call.id
            self._owe(moving("acme", move.booked.call.cost, charged=move.charged))
            self.events[name] = replace(move.booked, newest=ids[name], moves=move.number, charged=move.charged)
        found = posted(bookings, known, made, ids)
        first = [one for result in found if result.state is PostedState.BOOKED for one in result.settlements]
        self.counted += sum(one.amount for one in first)
        assert len({one.transaction_id for one in first}) == len(first)
        return [result.state for result in found]

    def _next(self) -> int:
        self.last += 1
        return self.last

    def _owe(self, entries: tuple[Entry, ...]) -> None:
        assert sum(entry.amount for entry in entries) == 0
        for entry in entries:
            self.owed[entry.account] = self.owed.get(entry.account, 0) + entry.amount


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[UsageEvent], list[list[UsageEvent]]]:
    """Events of one or two callers' requests, and batches in which all of them come, some again, in any order."""
    known: dict[EventId, UsageEvent] = {}
    for _ in range(draw(st.integers(1, 7))):
        number = draw(st.integers(1, 3))
        name = "q" if number == 1 else f"q-{number}"
        one = used(
            name,
            draw(st.sampled_from(["", "a1", "a2", "a3"])),
            draw(st.integers(0, 2)),
            draw(st.integers(0, 2)),
            output=draw(st.integers(0, 3)),
            well=draw(st.booleans()),
            over=draw(st.sampled_from(["", *({"q", "q-2", "q-3"} - {name})])),
        )
        if one.attempt is not None and draw(st.integers(0, 3)) == 0:
            one = replace(one, request_id=f"other-{name}", attempt=replace(one.attempt, request_id="other"))
        known.setdefault(one.id, one)
    events = list(known.values())
    again = draw(st.lists(st.sampled_from(events), max_size=6))
    order = draw(st.permutations([*events, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=5)) | {len(order)})
    starts = [0, *cuts[:-1]]
    return events, [order[start:end] for start, end in zip(starts, cuts, strict=True)]


@settings(max_examples=400)
@given(histories())
def test_the_books_depend_on_no_order_and_on_no_repetition(history: tuple[list[UsageEvent], list[Any]]) -> None:
    events, batches = history
    books, at_once = Books(), Books()
    for batch in batches:
        books.post(*batch)
    at_once.post(*events)
    assert {name for name, one in books.events.items() if one.charged} == {
        name for name, one in at_once.events.items() if one.charged
    }
    for caller in {one.caller_request for one in events}:
        mine = [book(one).call for one in events if one.caller_request == caller]
        assert {call.id for call in mine if books.events[call.id].charged} == charged(mine) != frozenset()
    cost = sum(one.call.cost for one in books.events.values() if one.charged)
    assert books.owed.get("tenant:acme", 0) == books.counted == cost
    assert {name: owed for name, owed in books.owed.items() if owed} == {
        name: owed for name, owed in at_once.owed.items() if owed
    }
    assert sum(books.owed.values()) == 0


def test_the_same_again_moves_nothing_and_another_body_is_a_conflict() -> None:
    books = Books()
    assert books.post(used(), used()) == [PostedState.BOOKED, PostedState.REPEATED]
    books.post(used(attempt="a2", begin=9))
    before = dict(books.owed)
    assert books.post(used(), used(output=9)) == [PostedState.REPEATED, PostedState.CONFLICT]
    assert books.owed == before


def test_what_comes_again_names_everything_of_its_request_for_recounting() -> None:
    first, second, other = used(), used(attempt="a2", begin=9), event("else")
    books = Books()
    books.post(first, other)
    books.post(second)
    known = list(books.events.values())
    bookings = [book(first)]
    (result,) = posted(bookings, known, plan(bookings, known), {})
    assert result.transaction_id == 1
    assert sorted(one.transaction_id for one in result.settlements) == [3, 4]
