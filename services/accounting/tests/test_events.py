"""Usage events from bytes: right, or refused with a reason that quotes nothing."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from farthing.accounting.v1.policy_pb2 import HitPrice as HitPriceMessage
from farthing.accounting.v1.usage_event_pb2 import SupersededCall, UsageEvent
from farthing.type.v1.money_pb2 import Money
from farthing.type.v1.usage_pb2 import Quote, TokenUsage
from farthing_accounting.adapters.nats.events import Unreadable, event_from
from farthing_accounting.domain.usage import SupersededCall as Superseded
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


def test_every_field_arrives() -> None:
    message = usage_event("q1", QUOTE, reservation_id="r1", tags={"a": "b"})
    event = event_from(message.SerializeToString())
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
    assert event_from(message.SerializeToString()).superseded == Superseded("q1", Usage(output=7))
    assert event_from(usage_event("q1", QUOTE).SerializeToString()).superseded is None


def test_the_price_of_a_hit_arrives() -> None:
    message = usage_event("q1", QUOTE, hit_price=HitPriceMessage(policy_version=3, share_millionths=100_000))
    assert event_from(message.SerializeToString()).hit_price == HitPrice(3, Millionths(100_000))
    assert event_from(usage_event("q1", QUOTE).SerializeToString()).hit_price is None


def test_a_word_of_a_later_release_is_booked_without_it() -> None:
    event = event_from(wrong(lambda e: setattr(e, "task", 99)).SerializeToString())
    assert event.task is Task.UNSPECIFIED


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda e: e.ClearField("request_id"), "request_id"),
        (lambda e: setattr(e, "request_id", CANARY * 20), "request_id"),
        (lambda e: setattr(e.principal, "org", CANARY.upper()), "principal.org"),
        (lambda e: setattr(e.principal, "user", CANARY + "\n"), "principal.user"),
        (lambda e: e.ClearField("end_time"), "end_time"),
        (lambda e: setattr(e.end_time, "seconds", 10**15), "end_time"),
        (lambda e: setattr(e.usage, "output_tokens", -1), "usage"),
        (lambda e: setattr(e.usage, "output_tokens", 10**10), "usage"),
        (lambda e: e.counterfactual_usage.CopyFrom(TokenUsage(output_tokens=-1)), "counterfactual_usage"),
        (lambda e: e.quote.prices.output.CopyFrom(Money(currency_code="EUR")), "quote.prices.output.currency_code"),
        (lambda e: e.quote.prices.output.CopyFrom(Money(nano_units=-1)), "quote.prices"),
        (lambda e: e.superseded.SetInParent(), "superseded.request_id"),
        (lambda e: setattr(e.superseded, "request_id", CANARY * 20), "superseded.request_id"),
        (
            lambda e: e.superseded.CopyFrom(
                SupersededCall(request_id="q0", counterfactual_usage=TokenUsage(output_tokens=-1))
            ),
            "superseded.counterfactual_usage",
        ),
        (lambda e: setattr(e.hit_price, "share_millionths", -1), "hit_price"),
        (lambda e: setattr(e.hit_price, "share_millionths", 1_000_001), "hit_price"),
        (lambda e: setattr(e.hit_price, "policy_version", -1), "hit_price"),
        (lambda e: setattr(e.quote, "model", ""), "quote.model"),
        (lambda e: setattr(e.quote, "price_version", -1), "quote.price_version"),
        (lambda e: e.tags.update({CANARY: "x" * 300}), "tags"),
        (lambda e: e.tags.update({str(n): CANARY for n in range(40)}), "tags"),
    ],
)
def test_what_is_wrong_is_named_and_not_quoted(change: Any, words: str) -> None:
    with pytest.raises(Unreadable) as caught:
        event_from(wrong(change).SerializeToString())
    assert words in str(caught.value)
    assert CANARY not in str(caught.value).lower()


@given(st.binary(max_size=400))
def test_bytes_are_an_event_or_unreadable(data: bytes) -> None:
    try:
        event_from(data)
    except Unreadable:
        return
