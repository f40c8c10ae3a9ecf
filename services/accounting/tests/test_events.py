"""Usage events from bytes: right, or refused with a reason that quotes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import hypothesis.strategies as st
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given

from farthing.accounting.v1.policy_pb2 import HitPrice as HitPriceMessage
from farthing.accounting.v1.usage_event_pb2 import Attempt, SupersededCall, UsageEvent
from farthing.type.v1.money_pb2 import Money
from farthing.type.v1.usage_pb2 import Quote, TokenUsage
from farthing_accounting.adapters.nats.events import event_from
from farthing_accounting.adapters.nats.mending import Mending, Unreadable
from farthing_accounting.domain.usage import NO_TIME, Void
from farthing_accounting.domain.usage import SupersededCall as Superseded
from farthing_accounting.domain.usage import UsageEvent as Event
from farthing_accounting.domain.vocabulary import CacheLevel, Task
from farthing_kit.money import HitPrice, Millionths, UnitPrices
from farthing_kit.usage import TokenUsage as Usage
from farthing_kit.wire import prices_to_message
from services.accounting.tests.client import usage_event

QUOTE = Quote(price_version=3, model="small", prices=prices_to_message(UnitPrices(1, 2, 3, 4, 5)))
CANARY = "canary-7f3a"


def wrong(change: Any) -> UsageEvent:
    event = usage_event("q1", QUOTE)
    change(event)
    return event


def booked(message: UsageEvent, mending: Mending | None = None) -> Event:
    """The event that is booked for a message."""
    event = event_from(message.SerializeToString(), mending)
    assert isinstance(event, Event)
    return event


def test_every_field_arrives() -> None:
    message = usage_event("q1", QUOTE, reservation_id="r1", tags={"a": "b"})
    event = booked(message)
    assert (event.request_id, event.reservation_id, event.tags) == ("q1", "r1", {"a": "b"})
    assert (event.principal.org, event.principal.user) == ("acme", "ada")
    assert (event.usage.fresh_input, event.usage.output) == (500, 200)
    assert event.quote is not None
    assert event.quote.prices == UnitPrices(1, 2, 3, 4, 5)
    assert event.cache_level is CacheLevel.NONE
    assert event.end_time.tzinfo is not None


def test_the_call_that_a_cascade_superseded_arrives() -> None:
    superseded = SupersededCall(request_id="q1", counterfactual_usage=TokenUsage(output_tokens=7))
    message = usage_event("q1-2", QUOTE, superseded=superseded)
    assert booked(message).superseded == Superseded("q1", Usage(output=7))
    assert booked(usage_event("q1", QUOTE)).superseded is None


def test_the_price_of_a_hit_arrives() -> None:
    message = usage_event("q1", QUOTE, hit_price=HitPriceMessage(policy_version=3, share_millionths=100_000))
    assert booked(message).hit_price == HitPrice(3, Millionths(100_000))
    assert booked(usage_event("q1", QUOTE)).hit_price is None


def test_a_word_of_a_later_release_is_booked_without_it() -> None:
    event = booked(wrong(lambda e: setattr(e, "task", 99)))
    assert event.task is Task.UNSPECIFIED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.ClearField("request_id"), "request_id"),
        (lambda e: setattr(e, "request_id", CANARY * 20), "request_id"),
        (lambda e: setattr(e.principal, "org", CANARY.upper()), "principal.org"),
        (lambda e: e.ClearField("end_time"), "end_time"),
        (lambda e: setattr(e.end_time, "seconds", 10**15), "end_time"),
        (lambda e: setattr(e.usage, "output_tokens", -1), "usage"),
        (lambda e: setattr(e.usage, "output_tokens", 10**10), "usage"),
        (lambda e: e.quote.prices.output.CopyFrom(Money(currency_code="EUR")), "quote.prices.output.currency_code"),
        (lambda e: e.quote.prices.output.CopyFrom(Money(nano_units=-1)), "quote.prices"),
        (lambda e: setattr(e.hit_price, "share_millionths", -1), "hit_price"),
        (lambda e: setattr(e.hit_price, "share_millionths", 1_000_001), "hit_price"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(change: Any, words: str) -> None:
    with pytest.raises(Unreadable) as caught:
        event_from(wrong(change).SerializeToString())
    assert words in str(caught.value)
    assert CANARY not in str(caught.value).lower()


COUNTERFACTUAL = Quote(counterfactual_prices=prices_to_message(UnitPrices(9, 9, 9, 9, 9)))
SUPERSEDED = SupersededCall(request_id="q0", counterfactual_usage=TokenUsage(output_tokens=1))
ATTEMPT = Attempt(request_id="q1", attempt_id="a1", begin_time=Timestamp(seconds=5), run=2)


def change_field(path: str, value: Any) -> Any:
    """A change of one field of a message that may lie in another."""

    def change(message: Any) -> None:
        *folder, name = path.split(".")
        for part in folder:
            message = getattr(message, part)
        setattr(message, name, value)

    return change


@pytest.mark.parametrize(
    ("change", "field", "found"),
    [
        (change_field("principal.user", "line\nbreak"), "principal.user", "line\ufffdbreak"),
        (change_field("principal.team", "nul\x00"), "principal.team", "nul\ufffd"),
        (change_field("principal.key_id", "x" * 200), "principal.key_id", "x" * 127 + "\ufffd"),
        (change_field("pool", "\u2028"), "pool", "\ufffd"),
        (change_field("quantization", "\x07"), "quantization", "\ufffd"),
        (change_field("quote.model", ""), "quote.model", "unknown"),
        (change_field("quote.model", "\n"), "quote.model", "\ufffd"),
        (change_field("quote.counterfactual_model", "\n"), "quote.counterfactual_model", "\ufffd"),
        (change_field("quote.price_version", -1), "quote.price_version", 0),
        (change_field("hit_price.policy_version", -1), "hit_price.policy_version", 0),
        (change_field("reservation_id", "\n"), "reservation_id", ""),
        (change_field("counterfactual_usage.output_tokens", -1), "counterfactual_usage", Usage()),
        (
            lambda e: e.quote.counterfactual_prices.output.CopyFrom(Money(nano_units=-1)),
            "quote.counterfactual_prices",
            UnitPrices(1, 2, 3, 4, 5),
        ),
        (change_field("superseded.request_id", ""), "superseded", None),
        (change_field("superseded.request_id", "x" * 200), "superseded", None),
        (lambda e: e.superseded.CopyFrom(SupersededCall(request_id="q1")), "superseded", None),
        (change_field("superseded.counterfactual_usage.output_tokens", -1), "superseded", None),
        (change_field("attempt.request_id", ""), "attempt.request_id", "q1"),
        (change_field("attempt.attempt_id", "\n"), "attempt.attempt_id", ""),
        (change_field("attempt.begin_time.seconds", -1), "attempt.begin_time", NO_TIME),
        (change_field("attempt.run", -1), "attempt.run", 0),
        (lambda e: e.tags.update({"": "v"}), "tags", {"\ufffd": "v"}),
        (lambda e: e.tags.update({"a\nb": "c\rd"}), "tags", {"a\ufffdb": "c\ufffdd"}),
        (lambda e: e.tags.update({"a": "x" * 300}), "tags", {"a": "x" * 255 + "\ufffd"}),
        (lambda e: e.tags.update({f"{n:02}": "" for n in range(40)}), "tags", {f"{n:02}": "" for n in range(32)}),
    ],
)
def test_money_is_not_refused_over_what_only_says_something_about_it(change: Any, field: str, found: Any) -> None:
    right = usage_event("q1", QUOTE, superseded=SUPERSEDED, attempt=ATTEMPT, hit_price=HitPriceMessage())
    right.quote.MergeFrom(COUNTERFACTUAL)
    before, wronged = book_parts(booked(right)), Mending()
    change(right)
    event = booked(right, wronged)
    assert wronged.mended
    value: Any = event
    for part in field.split("."):
        value = getattr(value, part)
    assert value == found
    assert book_parts(event) == before


def book_parts(event: Event) -> Any:
    """Who pays how much."""
    assert event.quote is not None
    return event.request_id, event.principal.org, event.usage, event.quote.prices


def test_what_is_right_is_not_mended() -> None:
    words = {"emoji": "\U0001f469\u200d\U0001f680", "farsi": "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"}
    mending = Mending()
    message = usage_event("q1", QUOTE, tags=words, superseded=SUPERSEDED, attempt=ATTEMPT)
    assert booked(message, mending).tags == words
    assert not mending.mended


def test_an_attempt_arrives() -> None:
    event = booked(usage_event("q1-2", QUOTE, attempt=ATTEMPT))
    assert (event.id, event.caller_request) == (("q1-2", "a1", 2), ("acme", "q1"))
    assert event.attempt is not None
    assert event.attempt.begin_time == datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC)
    older = booked(usage_event("q1-2", QUOTE, superseded=SupersededCall(request_id="q1")))
    assert (older.id, older.caller_request) == (("q1-2", "", 0), ("acme", "q1"))


def test_without_an_end_an_event_ended_when_it_was_heard_of() -> None:
    message, moment = usage_event("q1", QUOTE), datetime(2026, 1, 1, tzinfo=UTC)
    assert booked(message, Mending(moment)).end_time > moment
    message.ClearField("end_time")
    assert booked(message, Mending(moment)).end_time == moment


def test_a_void_needs_no_more_than_its_reservation() -> None:
    message = UsageEvent(voided=True, reservation_id="r1")
    message.principal.org = "acme"
    assert event_from(message.SerializeToString()) == Void("acme", "r1")


@given(st.binary(max_size=400))
def test_bytes_are_an_event_or_unreadable(data: bytes) -> None:
    try:
        event_from(data)
    except Unreadable:
        return
