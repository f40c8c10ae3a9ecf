"""The books: once each, balanced, append-only, and able to notice a forgery."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import psycopg
import pytest

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.ledger import PostgresLedger
from farthing_accounting.adapters.postgres.policies import PostgresPolicies
from farthing_accounting.adapters.postgres.prices import PostgresPrices
from farthing_accounting.adapters.postgres.unsettled import PostgresUnsettled
from farthing_accounting.domain.budgets import Counter
from farthing_accounting.domain.ledger import Entry, book
from farthing_accounting.domain.policy import DEFAULT_POLICY, SemanticCachePolicy
from farthing_accounting.domain.reports import GroupBy, ReportQuery
from farthing_accounting.domain.reservations import Settlement, Spent
from farthing_accounting.domain.scopes import Scope, ScopeKind
from farthing_accounting.domain.usage import SupersededCall, UsageEvent
from farthing_accounting.domain.vocabulary import Tier
from farthing_accounting.domain.windows import Window, period_of
from farthing_accounting.ports import Posted, PostedState, Unpostable, WriteOnce
from farthing_kit.errors import StoreUnavailable
from farthing_kit.money import WHOLE, HitPrice, Millionths, NanoUsd
from farthing_kit.usage import Tokens, TokenUsage
from services.accounting.tests.builders import (
    ADA,
    BOB,
    LARGE,
    QUOTE,
    SMALL,
    START,
    event,
    hit,
    key_scope,
    org_scope,
    price,
    settlement,
    team_scope,
)

# 1000 + 500 tokens at 0.1 and at 0.9 dollars for a million.
COST, COUNTERFACTUAL = 150_000, 1_350_000


@pytest.fixture
async def ledger(database: Database) -> PostgresLedger:
    await PostgresPrices(database).seed([price("small", Tier.SMALL, SMALL), price("large", Tier.LARGE, LARGE)])
    return PostgresLedger(database)


async def post(ledger: PostgresLedger, *events: UsageEvent) -> list[Posted]:
    return list(await ledger.post([book(one) for one in events]))


async def states(ledger: PostgresLedger, *events: UsageEvent) -> list[PostedState]:
    return [posted.state for posted in await post(ledger, *events)]


async def run(database: Database, statement: str, *, unguarded: bool = False) -> None:
    """As a person with a database shell would; unguarded: with the triggers off."""
    async with database.transaction() as connection:
        if unguarded:
            await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(statement.encode())


async def test_an_event_is_booked_as_a_balanced_transaction(ledger: PostgresLedger) -> None:
    (posted,) = await post(ledger, event("q1"))
    (transaction,) = await ledger.transactions("acme", "", None, 10)
    assert (transaction.transaction_id, transaction.request_id) == (posted.transaction_id, "q1")
    assert [(entry.account, entry.amount) for entry in transaction.entries] == [
        ("tenant:acme", COST),
        ("pool:cpu-local", -COST),
    ]


async def test_a_cached_answer_costs_nothing_and_is_booked(ledger: PostgresLedger) -> None:
    await post(ledger, hit("q1"))
    (transaction,) = await ledger.transactions("", "q1", None, 10)
    assert transaction.entries == (Entry("tenant:acme", 0), Entry("cache", 0))  # type: ignore[arg-type]


async def test_the_same_event_is_booked_once(ledger: PostgresLedger) -> None:
    booked, again = await post(ledger, event("q1"), event("q1"))
    assert (booked.state, again.state) == (PostedState.BOOKED, PostedState.REPEATED)
    later = await post(ledger, event("q1"), event("q2"))
    assert [one.state for one in later] == [PostedState.REPEATED, PostedState.BOOKED]
    assert later[0].transaction_id == booked.transaction_id
    assert (await ledger.verify()).transactions == 2


async def test_another_body_under_the_same_request_is_a_conflict(ledger: PostgresLedger) -> None:
    other = event("q1", usage=TokenUsage(output=1))
    assert await states(ledger, event("q1"), other) == [PostedState.BOOKED, PostedState.CONFLICT]
    assert await states(ledger, other) == [PostedState.CONFLICT]
    assert (await ledger.verify()).usage_total == COST


async def test_a_batch_that_the_books_refuse_leaves_nothing(ledger: PostgresLedger) -> None:
    with pytest.raises(Unpostable):
        await post(ledger, event("q1"), event("q2", pool="nul\x00"))
    assert (await ledger.verify()).transactions == 0


async def test_replicas_that_fold_the_same_events_book_them_once(ledger: PostgresLedger) -> None:
    batches = [[event(f"q{number}") for number in range(start, start + 20)] for start in (0, 10, 5, 0)]
    await asyncio.gather(*(post(ledger, *batch) for batch in batches))
    verification = await ledger.verify()
    assert (verification.transactions, verification.usage_total) == (30, 30 * COST)
    assert verification.violations == ()


async def test_spent_is_summed_by_scope_and_window(ledger: PostgresLedger) -> None:
    noon = datetime(2026, 3, 31, 12, tzinfo=UTC)
    late = datetime(2026, 3, 31, 23, 59, 59, 999_999, tzinfo=UTC)
    posted = await post(
        ledger,
        event("q1", end_time=noon),
        event("q2", end_time=late, principal=BOB),
        event("q3", end_time=late + timedelta(microseconds=1)),
        event("q4", end_time=noon, principal=replace(ADA, org="globex")),
    )
    day, month = period_of(Window.DAY, noon), period_of(Window.MONTH, noon)
    minute = period_of(Window.MINUTE, noon)
    counters = [
        Counter(org_scope(), day),
        Counter(org_scope(), month),
        Counter(team_scope(), day),
        Counter(Scope("acme", ScopeKind.USER, "bob"), day),
        Counter(key_scope(), minute),
        Counter(org_scope(), period_of(Window.DAY, noon + timedelta(days=1))),
        Counter(team_scope("nobody"), day),
    ]
    found = await ledger.spent(counters)
    assert found.transaction_id == posted[-1].transaction_id
    assert [spent.amount // COST for spent in found.spent] == [2, 2, 1, 1, 1, 1, 0]
    assert found.spent[0] == Spent(counters[0], NanoUsd(2 * COST), Tokens(3_000))


async def test_transactions_are_paged_newest_first(ledger: PostgresLedger) -> None:
    await post(ledger, *(event(f"q{number}") for number in range(5)))
    first = await ledger.transactions("acme", "", None, 2)
    second = await ledger.transactions("acme", "", first[-1].transaction_id, 10)
    assert [t.request_id for t in (*first, *second)] == ["q4", "q3", "q2", "q1", "q0"]
    assert await ledger.transactions("globex", "", None, 10) == []


async def test_what_was_booked_cannot_be_changed(database: Database, ledger: PostgresLedger) -> None:
    await post(ledger, event("q1"))
    tables = ["transactions", "entries", "usage_events", "price_versions"]
    changes = ["UPDATE {0} SET {1} = {1}", "DELETE FROM {0}", "TRUNCATE {0} CASCADE"]
    columns = ["org", "amount", "cost", "output"]
    for table, column in zip(tables, columns, strict=True):
        for change in changes:
            with pytest.raises(psycopg.errors.RestrictViolation):
                await run(database, change.format(table, column))
    assert (await ledger.verify()).violations == ()


@pytest.mark.parametrize(
    "statements",
    [
        ["INSERT INTO transactions (request_id, org) VALUES ('q9', 'acme')"],
        ["INSERT INTO entries VALUES (1, 3, 'tenant:acme', 5)"],
    ],
    ids=["without entries", "unbalanced"],
)
async def test_what_does_not_balance_is_not_committed(
    database: Database, ledger: PostgresLedger, statements: list[str]
) -> None:
    await post(ledger, event("q1"))
    for statement in statements:
        with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
            await run(database, statement)


async def test_right_books_have_no_violation(ledger: PostgresLedger) -> None:
    odd = TokenUsage(7, 11, 13, 17, 19)
    await post(ledger, event("q1"), hit("q2"), event("q3", usage=odd), hit("q4", quote=None), event("q5", pool=""))
    found = await ledger.verify()
    assert found.violations == ()
    assert (found.transactions, found.usage_events) == (5, 5)
    assert found.ledger_total == found.usage_total > 0


def escalated(request_id: str = "q1-2", **changes: Any) -> UsageEvent:
    """The second call of a cascade whose first was q1 with the tokens of `event`."""
    values: dict[str, Any] = {"superseded": SupersededCall("q1", event().counterfactual_usage), "tier": Tier.LARGE}
    return event(request_id, **{**values, **changes})


async def test_a_cascade_is_one_request_of_two_calls(ledger: PostgresLedger) -> None:
    short = TokenUsage(fresh_input=1_000, output=100)
    assert (
        await states(ledger, escalated(usage=short, counterfactual_usage=short), event("q1"))
        == [PostedState.BOOKED] * 2
    )
    found = await ledger.verify()
    assert (found.usage_events, found.usage_total, found.violations) == (2, COST + 110_000, ())
    (row,) = await ledger.costs(ReportQuery(GroupBy.NOTHING))
    assert (row.requests, row.cost, row.counterfactual_cost) == (1, COST + 110_000, 990_000)
    by_tier = {row.group: row for row in await ledger.costs(ReportQuery(GroupBy.TIER))}
    assert (by_tier["SMALL"].requests, by_tier["LARGE"].requests) == (1, 0)
    assert by_tier["LARGE"].counterfactual_cost == 990_000 - COUNTERFACTUAL


async def test_a_call_that_was_superseded_may_be_booked_last(ledger: PostgresLedger) -> None:
    await post(ledger, escalated())
    assert (await ledger.verify()).violations == ()
    await post(ledger, event("q1"))
    assert (await ledger.verify()).violations == ()


async def test_what_was_superseded_must_be_what_was_booked(database: Database, ledger: PostgresLedger) -> None:
    await post(ledger, event("q1"), escalated(superseded=SupersededCall("q1", TokenUsage(output=9))))
    (words,) = (await ledger.verify()).violations
    assert "usage event q1-2 supersedes q1" in words


async def test_a_call_is_superseded_once(database: Database, ledger: PostgresLedger) -> None:
    """By the last; what the other used is waste, and its counterfactual is not taken back."""
    await post(ledger, event("q1"), escalated(), escalated("q1-3"))
    found = await ledger.verify()
    assert (found.violations, found.usage_total, found.waste_total) == ((), 2 * COST, COST)
    await run(database, "UPDATE transactions SET charged = true", unguarded=True)
    assert any("2 usage events supersede q1" in words for words in (await ledger.verify()).violations)


async def set_hit_price(database: Database, share: int) -> HitPrice:
    """The next version of the policy of the tests' organisation."""
    policy = replace(DEFAULT_POLICY, semantic_cache=SemanticCachePolicy(hit_price_share=Millionths(share)))
    stored = await PostgresPolicies(database).put("acme", policy, WriteOnce(f"share {share}", bytes(32)))
    assert stored.semantic_cache.hit_price_share == share
    return HitPrice(stored.version, Millionths(share))


async def test_a_hit_is_booked_at_its_share_and_saves_the_rest(database: Database, ledger: PostgresLedger) -> None:
    price = await set_hit_price(database, 100_000)
    await post(ledger, hit("q1", hit_price=price), hit("q2"), hit("q3", quote=None, hit_price=price), event("q4"))
    (transaction,) = await ledger.transactions("", "q1", None, 10)
    assert [(entry.account, entry.amount) for entry in transaction.entries] == [
        ("tenant:acme", COST // 10),
        ("cache", -COST // 10),
    ]
    rows = {row.group: row for row in await ledger.costs(ReportQuery(GroupBy.CACHE_LEVEL))}
    assert rows["EXACT"].cost == COST // 10
    assert rows["EXACT"].saved == 2 * COUNTERFACTUAL - COST // 10
    found = await ledger.verify()
    assert found.violations == ()
    assert found.usage_total == found.ledger_total == COST + COST // 10


async def test_the_price_of_a_hit_in_sql_is_the_one_that_was_booked(database: Database, ledger: PostgresLedger) -> None:
    """Odd tokens, odd prices and odd shares: the formula is written twice, and must round alike."""
    random = Random(7)
    shares = [1, 333_333, 499_999, 500_000, 500_001, WHOLE, *(random.randrange(WHOLE) for _ in range(14))]
    prices = [await set_hit_price(database, share) for share in shares]
    events = [
        hit(
            f"q{number}",
            counterfactual_usage=TokenUsage(*(random.randrange(10 ** random.randrange(1, 7)) for _ in range(5))),
            hit_price=price,
        )
        for number, price in enumerate(prices * 10)
    ]
    await post(ledger, *events)
    found = await ledger.verify()
    assert found.violations == ()
    assert found.usage_total == sum(book(one).cost for one in events) > 0


async def test_a_price_that_the_policy_does_not_have_is_named(database: Database, ledger: PostgresLedger) -> None:
    right = await set_hit_price(database, 100_000)
    wrong = {
        "q1": HitPrice(right.policy_version, Millionths(99_999)),
        "q2": HitPrice(right.policy_version),
        "q3": HitPrice(right.policy_version + 1, right.share),
        "q4": HitPrice(0, right.share),
    }
    await post(ledger, *(hit(name, hit_price=price) for name, price in wrong.items()))
    await post(ledger, hit("q5", hit_price=right), hit("q6", hit_price=HitPrice()))
    words = sorted((await ledger.verify()).violations)
    assert [text.split()[2] for text in words] == list(wrong)
    assert "was charged 99999 millionths for a hit, version 1 of the policy of acme has 100000" in words[0]


FORGERIES = {
    "UPDATE usage_events SET cost = cost - 1 WHERE request_id = 'q1'": ["usage event q1 was booked at 149999"],
    "UPDATE usage_events SET policy_version = 0, hit_price_share = 0 WHERE request_id = 'q1'": [
        "q1 was charged 0 mill"
    ],
    "UPDATE usage_events SET output = output + 1 WHERE request_id = 'q1'": ["usage event q1 was booked at 150000"],
    "UPDATE usage_events SET counterfactual_cost = 9 WHERE request_id = 'q1'": ["q1 has a counterfactual cost of 9"],
    "UPDATE usage_events SET prices = '{1,1,1,1,1}', cost = 0 WHERE request_id = 'q1'": ["at prices of small that"],
    "UPDATE entries SET amount = amount + 1 WHERE transaction_id = 1 AND line = 1": [
        "transaction 1 (request q1) sums to 1"
    ],
    "UPDATE entries SET amount = amount * 2 WHERE transaction_id = 1": [
        "the entries of request q1 are not",
        "debits sum to",
    ],
    "UPDATE entries SET account = 'tenant:globex' WHERE account = 'tenant:acme'": ["the entries of request q1 are not"],
    "DELETE FROM usage_events WHERE request_id = 'q1'": ["transaction 1 (request q1) has no usage event"],
    "DELETE FROM entries WHERE transaction_id = 1": ["over 0 entries", "debits sum to 0 nano-dollars"],
    "DELETE FROM transactions": [
        "entry 1 of transaction 1 belongs to no",
        "usage event q1 has no transaction of its own",
    ],
    "INSERT INTO entries VALUES (1, 3, 'tenant:acme', 5), (1, 4, 'pool:x', -5)": ["the entries of request q1 are not"],
    "INSERT INTO transactions (request_id, org) VALUES ('q9', 'acme')": [
        "(request q9) sums to 0",
        "(request q9) has no usage",
    ],
    "UPDATE price_versions SET output = output + 1 WHERE model = 'large'": ["at prices of large that"],
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forgery_is_named(database: Database, ledger: PostgresLedger, forgery: str) -> None:
    await post(ledger, event("q1"))
    await run(database, forgery, unguarded=True)
    violations = (await ledger.verify()).violations
    for words in FORGERIES[forgery]:
        assert any(words in violation for violation in violations), violations


async def test_violations_are_bounded(database: Database, ledger: PostgresLedger) -> None:
    await post(ledger, *(event(f"q{number}") for number in range(120)))
    await run(database, "UPDATE usage_events SET cost = cost + 1", unguarded=True)
    assert len((await ledger.verify()).violations) == 100


async def test_unsettled_is_kept_until_it_is_settled(database: Database, ledger: PostgresLedger) -> None:
    unsettled = PostgresUnsettled(database)
    (posted,) = await post(ledger, event("q1", reservation_id="r1"))
    waiting = settlement(posted.transaction_id, "r1", COST, 1_500, end_time=START + timedelta(hours=9))
    await unsettled.remember([waiting])
    await unsettled.remember([waiting])
    seen: list[Any] = []

    async def fails(settlements: Any) -> None:
        raise StoreUnavailable("away")

    async def settles(settlements: Sequence[Settlement]) -> None:
        seen.extend(settlements)

    with pytest.raises(StoreUnavailable):
        await unsettled.settle_some(fails, 10)
    assert await unsettled.settle_some(settles, 10) == 1
    assert seen == [waiting]
    assert await unsettled.settle_some(settles, 10) == 0


def test_a_quote_of_the_tests_is_the_one_of_the_list() -> None:
    assert (QUOTE.prices, QUOTE.counterfactual_prices) == (SMALL, LARGE)
