"""The rules, without a store."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from farthing.accounting.v1 import budget_service_pb2, policy_pb2, report_service_pb2
from farthing.type.v1 import model_pb2
from farthing_accounting.domain import vocabulary
from farthing_accounting.domain.budgets import MAX_NANO_USD, MAX_TOKENS, counters_of, limits_of
from farthing_accounting.domain.errors import InvalidArgument, PriceMissing
from farthing_accounting.domain.keys import ApiKey, KeyHasher, KeyRecord, KeyState
from farthing_accounting.domain.ledger import Unbookable, book
from farthing_accounting.domain.pricing import PriceBook
from farthing_accounting.domain.principal import Principal, is_name
from farthing_accounting.domain.reports import CostRow, GroupBy, dearest_first, group_name, total
from farthing_accounting.domain.reservations import Estimate, body_digest, estimate_of
from farthing_accounting.domain.scopes import Scope, ScopeKind, scopes_of
from farthing_accounting.domain.usage import Attempt, SupersededCall, UsageEvent
from farthing_accounting.domain.vocabulary import CacheLevel, FinishReason, Task, Tier
from farthing_accounting.domain.windows import Window, period_of
from farthing_kit.money import WHOLE, HitPrice, Millionths, NanoUsd, UnitPrices, cost
from farthing_kit.usage import Tokens, TokenUsage
from services.accounting.tests.builders import (
    ADA,
    BOB,
    LARGE,
    QUOTE,
    SMALL,
    START,
    budget,
    event,
    hit,
    key_scope,
    org_scope,
    price,
    team_scope,
)

MOMENTS = st.datetimes(
    datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    datetime(9999, 11, 30),  # noqa: DTZ001
    timezones=st.just(UTC),
)
USAGES = st.builds(TokenUsage, *[st.integers(0, 10_000_000)] * 5)
PRICES = st.builds(UnitPrices, *[st.integers(0, 10**12)] * 5)


@pytest.mark.parametrize(
    ("ours", "prefix", "theirs"),
    [
        (vocabulary.Tier, "TIER", model_pb2.Tier),
        (vocabulary.CacheLevel, "CACHE_LEVEL", model_pb2.CacheLevel),
        (vocabulary.Task, "TASK", model_pb2.Task),
        (vocabulary.FinishReason, "FINISH_REASON", model_pb2.FinishReason),
        (vocabulary.OutageMode, "OUTAGE_MODE", policy_pb2.OutageMode),
        (vocabulary.CacheScope, "CACHE_SCOPE", policy_pb2.CacheScope),
        (Window, "WINDOW", budget_service_pb2.Window),
        (ScopeKind, "SCOPE_KIND", budget_service_pb2.ScopeKind),
        (GroupBy, "GROUP_BY", report_service_pb2.GroupBy),
    ],
)
def test_words_and_numbers_are_those_of_the_contract(ours, prefix, theirs) -> None:  # type: ignore[no-untyped-def]
    contract = {name.removeprefix(f"{prefix}_"): number for name, number in theirs.items()}
    mine = {member.name.replace("NOTHING", "UNSPECIFIED"): int(member) for member in ours}
    assert mine == {name: number for name, number in contract.items() if name in mine or number != 0}


# --- keys


def test_a_key_is_parsed_as_it_was_made() -> None:
    key = ApiKey.made_of(bytes(range(40)))
    assert key.text == f"fk_{bytes(range(8)).hex()}_{bytes(range(8, 40)).hex()}"
    assert ApiKey.parse(key.text) == key
    assert key.id == f"k_{bytes(range(8)).hex()}"
    assert key.secret not in repr(key)


@pytest.mark.parametrize("text", ["", "fk_", "fk_0001020304050607_zz", "x" * 200, "fk_0001020304050607_" + "0" * 63])
def test_what_is_no_key_is_not_parsed(text: str) -> None:
    assert ApiKey.parse(text) is None


def test_only_the_key_itself_matches_and_only_under_its_pepper() -> None:
    hasher, key, other = KeyHasher(b"p" * 32), ApiKey.made_of(b"a" * 40), ApiKey.made_of(b"b" * 40)
    assert hasher.matches(key, hasher.hash(key))
    assert not hasher.matches(other, hasher.hash(key))
    assert not hasher.matches(key, None)
    assert not KeyHasher(b"q" * 32).matches(key, hasher.hash(key))
    with pytest.raises(ValueError, match="32"):
        KeyHasher(b"short")


def test_a_key_ends_when_it_expires_or_is_revoked() -> None:
    assert KeyRecord(ADA, START).state(START) is KeyState.ACTIVE
    assert KeyRecord(ADA, START, START).state(START) is KeyState.EXPIRED
    assert KeyRecord(ADA, START, START + timedelta(1)).state(START) is KeyState.ACTIVE
    assert KeyRecord(ADA, START, None, START).state(START) is KeyState.REVOKED


# --- scopes and windows


def test_scopes_go_from_the_widest_to_the_narrowest() -> None:
    assert [scope.kind for scope in scopes_of(ADA)] == [ScopeKind.ORG, ScopeKind.TEAM, ScopeKind.USER, ScopeKind.KEY]
    assert scopes_of(Principal("acme")) == (org_scope(),)


def test_labels_are_those_of_the_contract_and_name_no_person() -> None:
    org, team, user, key = (scope.label for scope in scopes_of(ADA))
    assert (org, team, key) == ("org:acme", "team:acme/search", f"key:{ADA.key_id}")
    assert user.startswith("user:acme/")
    assert "ada" not in user
    assert user != Scope("acme", ScopeKind.USER, "bob").label


@given(MOMENTS)
def test_a_moment_is_inside_its_periods_and_periods_adjoin(moment: datetime) -> None:
    for window in Window:
        period = period_of(window, moment)
        assert period.start <= moment < period.end
        assert period_of(window, period.end).start == period.end
        assert period_of(window, period.end - timedelta(microseconds=1)) == period


def test_periods_are_utc() -> None:
    east = datetime(2026, 3, 1, 1, 30, tzinfo=timezone(timedelta(hours=2)))
    assert [period_of(window, east).id for window in Window] == ["2026-02-28T23:30", "2026-02-28", "2026-02"]


def test_only_the_budgets_of_a_principals_scopes_limit_it() -> None:
    budgets = [
        budget(key_scope(), Window.MINUTE, tokens=1),
        budget(team_scope("ads"), money=NanoUsd(1)),
        budget(org_scope(), Window.MONTH, money=NanoUsd(1)),
        budget(org_scope(), Window.DAY, money=NanoUsd(1)),
        budget(org_scope("globex"), money=NanoUsd(1)),
        budget(team_scope()),
    ]
    found = limits_of(ADA, budgets, START)
    assert [limit.counter.label for limit in found] == [
        "org:acme|2026-01-01",
        "org:acme|2026-01",
        f"key:{ADA.key_id}|2026-01-01T00:00",
    ]
    assert [limit.counter.scope for limit in limits_of(BOB, budgets, START)][-1] == team_scope("ads")


def test_a_request_adds_to_every_scope_in_every_window() -> None:
    assert len(counters_of(ADA, START)) == 12
    assert len({counter.label for counter in counters_of(ADA, START)}) == 12


@pytest.mark.parametrize(
    ("text", "right"), [("acme", True), ("a-1", True), ("", False), ("A", False), ("a" * 65, False)]
)
def test_names(text: str, right: bool) -> None:
    assert is_name(text) is right


# --- prices


def book_of_two() -> PriceBook:
    return PriceBook([price("large", Tier.LARGE, LARGE, 1), price("small", Tier.SMALL, SMALL, 2)])


def test_a_quote_has_the_model_and_the_large_tier() -> None:
    assert book_of_two().quote("small") == QUOTE


def test_a_model_without_a_price_is_refused() -> None:
    with pytest.raises(PriceMissing):
        book_of_two().quote("medium")


def test_the_newest_price_of_the_large_tier_is_the_counterfactual() -> None:
    dearer = UnitPrices(*[2_000_000_000] * 5)
    book = PriceBook([*book_of_two()._versions, price("huge", Tier.LARGE, dearer, 3)])
    assert (book.quote("small").counterfactual_model, book.version) == ("huge", 3)
    assert book.as_of(2).quote("small") == QUOTE
    assert book.as_of(1).version == 1
    moved = PriceBook([*book._versions, price("huge", Tier.MEDIUM, dearer, 4)])
    assert moved.quote("small").counterfactual_model == "large"


def test_without_a_large_tier_nothing_is_saved() -> None:
    quote = PriceBook([price("small", Tier.SMALL, SMALL, 1)]).quote("small")
    assert quote.counterfactual_prices == quote.prices


def test_an_estimate_is_priced_whole() -> None:
    found = estimate_of(TokenUsage(fresh_input=1_000, output=1), QUOTE, "estimate")
    assert (found.amount, found.tokens) == (100_100, 1_001)
    for wrong in (TokenUsage(), TokenUsage(output=MAX_NANO_USD), TokenUsage(output=MAX_NANO_USD + 1)):
        with pytest.raises(InvalidArgument) as caught:
            estimate_of(wrong, QUOTE, "estimate")
        assert caught.value.fields[0].field == "estimate"


def test_a_body_digest_tells_bodies_apart() -> None:
    first = body_digest(ADA, ("reserve", "small", 1), TokenUsage(1))
    assert first == body_digest(ADA, ("reserve", "small", 1), TokenUsage(1))
    others = [(BOB, "small", TokenUsage(1)), (ADA, "large", TokenUsage(1)), (ADA, "small", TokenUsage(2))]
    assert first not in {body_digest(who, ("reserve", model, 1), usage) for who, model, usage in others}


# --- ledger


@given(USAGES, PRICES, USAGES, PRICES)
def test_every_booking_balances(usage: TokenUsage, prices: UnitPrices, spared: TokenUsage, dear: UnitPrices) -> None:
    quote = QUOTE.__class__(1, "m", prices, "l", dear)
    booking = book(event(usage=usage, counterfactual_usage=spared, quote=quote))
    assert sum(entry.amount for entry in booking.entries) == 0
    assert booking.entries[0].amount == booking.cost == cost(usage, prices)
    assert booking.counterfactual_cost == cost(spared if spared.total else usage, dear)


def test_a_cached_answer_is_booked_at_nothing_and_saves() -> None:
    booking = book(hit())
    assert (booking.cost, booking.counterfactual_cost) == (0, 1_350_000)
    assert [entry.account for entry in booking.entries] == ["tenant:acme", "cache"]
    assert not booking.counts
    assert book(hit(reservation_id="r1")).counts


@given(USAGES, PRICES, PRICES, st.integers(0, WHOLE))
def test_a_hit_costs_a_share_of_the_call_that_it_spared_and_is_held_at_that(
    spared: TokenUsage, own: UnitPrices, dear: UnitPrices, share: int
) -> None:
    quote = QUOTE.__class__(1, "m", own, "l", dear)
    price = HitPrice(4, Millionths(share))
    booking = book(hit(counterfactual_usage=spared, quote=quote, hit_price=price))
    assert booking.cost == price.of(cost(spared, own)) <= book(event(usage=spared, quote=quote)).cost
    assert (booking.counterfactual_cost, booking.counts) == (cost(spared, dear), booking.cost > 0)
    assert [entry.account for entry in booking.entries] == ["tenant:acme", "cache"]
    if 0 < spared.total <= MAX_TOKENS and booking.cost <= MAX_NANO_USD:
        assert estimate_of(spared, quote, "estimate", price) == Estimate(booking.cost, Tokens(0))


def test_only_a_cache_has_the_price_of_a_hit() -> None:
    with pytest.raises(Unbookable, match="no cache"):
        book(event(hit_price=HitPrice(1, Millionths(1))))


def test_tokens_without_prices_cannot_be_booked() -> None:
    with pytest.raises(Unbookable):
        book(event(quote=None))
    assert book(hit(quote=None)).cost == 0


def test_a_cost_beyond_the_ledger_cannot_be_booked() -> None:
    huge = QUOTE.__class__(1, "m", UnitPrices(output=10**18), "l", LARGE)
    with pytest.raises(Unbookable):
        book(event(usage=TokenUsage(output=10**9), quote=huge))


@given(USAGES, USAGES, PRICES, PRICES)
def test_the_calls_of_a_cascade_cost_their_sum_against_one_answer(
    first: TokenUsage, second: TokenUsage, prices: UnitPrices, dear: UnitPrices
) -> None:
    quote = QUOTE.__class__(1, "m", prices, "l", dear)
    earlier = book(event("q1", usage=first, counterfactual_usage=first, quote=quote))
    superseded = SupersededCall("q1", earlier.counterfactual_usage)
    later = book(event("q1-2", usage=second, counterfactual_usage=second, quote=quote, superseded=superseded))
    assert earlier.cost + later.cost == cost(first, prices) + cost(second, prices)
    assert earlier.counterfactual_cost + later.counterfactual_cost == cost(later.counterfactual_usage, dear)
    assert sum(entry.amount for entry in later.entries) == 0


def test_an_event_cannot_supersede_itself() -> None:
    with pytest.raises(Unbookable):
        book(event("q1", superseded=SupersededCall("q1", TokenUsage())))


def test_an_event_without_a_pool_is_charged_to_an_unknown_one() -> None:
    assert book(event(pool="")).entries[1].account == "pool:unknown"


ATTEMPT = Attempt("q1", "a1", START, 1)
OTHERS: dict[str, Any] = {"request_id": "q2", "attempt_id": "a2", "begin_time": START + timedelta(seconds=1), "run": 2}


def test_the_digest_of_an_event_depends_on_all_of_it_and_on_no_order() -> None:
    one = event(tags={"a": "1", "b": "2"})
    assert one.digest() == event(tags={"b": "2", "a": "1"}).digest()
    changes: list[dict[str, Any]] = [
        {"tags": {"a": "1"}},
        {"usage": TokenUsage(output=1)},
        {"principal": BOB},
        {"end_time": START},
        {"reservation_id": "r"},
        {"cache_level": CacheLevel.NEAR},
        {"quote": None},
        {"pool": "other"},
        {"tier": Tier.LARGE},
        {"task": Task.CODE},
        {"finish_reason": FinishReason.LENGTH},
        {"quantization": "fp16"},
        {"counterfactual_usage": TokenUsage(output=1)},
        {"quote": replace(QUOTE, counterfactual_prices=SMALL)},
        {"request_id": "q2"},
        {"superseded": SupersededCall("q0", TokenUsage())},
        {"superseded": SupersededCall("q0", TokenUsage(output=1))},
        {"hit_price": HitPrice()},
        {"hit_price": HitPrice(1)},
        {"hit_price": HitPrice(1, Millionths(1))},
        {"attempt": ATTEMPT},
        *({"attempt": replace(ATTEMPT, **{name: value})} for name, value in OTHERS.items()),
    ]
    assert len({one.digest(), *(event(**change).digest() for change in changes)}) == len(changes) + 1


# --- reports


def row(group: str, requests: int = 1, amount: int = 10, tokens: int = 3) -> CostRow:
    return CostRow(group, requests, 0, TokenUsage(output=tokens), NanoUsd(amount), NanoUsd(5 * amount))


def test_rows_sum_to_the_total_and_are_dearest_first() -> None:
    rows = dearest_first([row("b"), row("c", amount=99), row("a")])
    assert [one.group for one in rows] == ["c", "a", "b"]
    all_of_it = total(rows)
    assert (all_of_it.requests, all_of_it.cost, all_of_it.usage.total, all_of_it.saved) == (3, 119, 9, 476)


def test_averages_are_rounded_down_and_nothing_is_divided_by_zero() -> None:
    assert (row("a", 3, 11, 7).cost_per_request, row("a", 3, 11, 7).cost_per_thousand_tokens) == (3, 1_571)
    nothing = total([])
    assert (nothing.cost_per_request, nothing.cost_per_thousand_tokens) == (0, 0)


def test_groups_have_the_words_of_the_contract() -> None:
    assert group_name(GroupBy.TIER, "1") == "SMALL"
    assert group_name(GroupBy.CACHE_LEVEL, "3") == "EXACT"
    assert group_name(GroupBy.TASK, "2") == "QUESTION_ANSWERING"
    assert group_name(GroupBy.TEAM, "2") == "2"


def test_every_field_of_an_event_is_in_its_digest() -> None:
    """A field that is added later must not be forgotten."""
    known = {field.name for field in fields(UsageEvent)}
    names = (
        "attempt cache_level counterfactual_usage end_time finish_reason hit_price pool principal quantization quote "
        "request_id reservation_id superseded tags task tier usage"
    )
    assert known == set(names.split())
