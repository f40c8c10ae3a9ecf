"""Several attempts at one request of a caller, in PostgreSQL: booked all, charged one, whatever comes when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random

import pytest

from farthing_accounting.adapters.postgres.database import Database
from farthing_accounting.adapters.postgres.ledger import PostgresLedger
from farthing_accounting.adapters.postgres.migrate import migrate, migrations
from farthing_accounting.adapters.postgres.prices import PostgresPrices
from farthing_accounting.adapters.postgres.unsettled import PostgresUnsettled
from farthing_accounting.domain.budgets import Counter
from farthing_accounting.domain.ledger import WASTE_ACCOUNT, book
from farthing_accounting.domain.reports import GroupBy, ReportQuery
from farthing_accounting.domain.reservations import Settlement
from farthing_accounting.domain.usage import UsageEvent, Void
from farthing_accounting.domain.vocabulary import Tier
from farthing_accounting.domain.windows import Window, period_of
from farthing_accounting.ports import Posted
from farthing_kit.errors import StoreUnavailable
from services.accounting.tests.builders import BOB, LARGE, SMALL, START, event, org_scope, price
from services.accounting.tests.test_charging import CASES, used

COST = 150_000  # 1000 + 500 tokens at 0.1 dollars for a million


@pytest.fixture
async def ledger(database: Database) -> PostgresLedger:
    await PostgresPrices(database).seed([price("small", Tier.SMALL, SMALL), price("large", Tier.LARGE, LARGE)])
    return PostgresLedger(database)


async def post(ledger: PostgresLedger, *events: UsageEvent) -> list[Posted]:
    return list(await ledger.post([book(one) for one in events]))


async def spent(ledger: PostgresLedger) -> tuple[int, int]:
    """Money and tokens of the organisation, as budgets count them."""
    position = await ledger.spent([Counter(org_scope(), period_of(Window.MONTH, START))])
    return position.spent[0].amount, position.spent[0].tokens


async def test_a_second_booking_of_a_request_is_waste_of_the_platform(ledger: PostgresLedger) -> None:
    first, second = used("q"), used("q", "a2", begin=9, output=100)
    await post(ledger, first)
    await post(ledger, second)
    newest, moved, oldest = sorted(
        await ledger.transactions("acme", "q", None, 10), key=lambda one: one.transaction_id, reverse=True
    )
    assert (oldest.entries[0].account, oldest.entries[0].amount) == ("tenant:acme", COST)
    assert {tuple((e.account, e.amount) for e in one.entries) for one in (newest, moved)} == {
        (("tenant:acme", 110_000), ("pool:cpu-local", -110_000)),
        ((WASTE_ACCOUNT, COST), ("tenant:acme", -COST)),
    }
    found = await ledger.verify()
    assert (found.violations, found.usage_events, found.transactions) == ((), 2, 3)
    assert (found.ledger_total, found.usage_total, found.waste_total) == (110_000, 110_000, COST)
    assert await spent(ledger) == (110_000, 1_100)
    (row,) = await ledger.costs(ReportQuery(GroupBy.NOTHING))
    assert (row.requests, row.cost, row.usage.total, row.counterfactual_cost) == (1, 110_000, 1_100, 990_000)


async def test_what_was_waste_is_charged_once_nothing_better_is_left(ledger: PostgresLedger) -> None:
    """There and back: cut off and dear; then answered; then a run of the first that ended well after all."""
    cut, answered = used(well=False, output=900, begin=5), used(attempt="a2", begin=1)
    for one, cost in ((cut, 190_000), (answered, COST), (used(run=2, begin=5, output=900), 190_000)):
        await post(ledger, one)
        assert (await spent(ledger))[0] == cost
    await post(ledger, used(attempt="a3", begin=9, output=0))
    found = await ledger.verify()
    assert (found.violations, found.usage_total, found.waste_total) == ((), 100_000, 190_000 + COST + 190_000)


async def test_the_books_are_the_same_for_every_order(database: Database, ledger: PostgresLedger) -> None:
    """Every case of the rule under a caller's request of its own, in batches of every size, with repetitions."""
    random, events = Random(9), list[UsageEvent]()
    for number, (made, _) in enumerate(CASES.values()):
        events += [_of_request(one, f"r{number}") for one in made]
    expected = sum(len(names) for _, names in CASES.values())
    for _ in range(3):
        order = [*events, *random.sample(events, len(events) // 2)]
        random.shuffle(order)
        while order:
            size = random.randint(1, 5)
            await post(ledger, *order[:size])
            order = order[size:]
    found = await ledger.verify()
    assert found.violations == ()
    assert found.usage_events == len({one.id for one in events})
    async with database.transaction() as connection:
        cursor = await connection.execute("SELECT count(*) FROM waste")
        assert await cursor.fetchone() == (found.usage_events - expected,)


def _of_request(one: UsageEvent, name: str) -> UsageEvent:
    assert one.attempt is not None
    over = replace(one.superseded, request_id=f"{name}{one.superseded.request_id}") if one.superseded else None
    attempt = replace(one.attempt, request_id=f"{name}q")
    return replace(one, request_id=f"{name}{one.request_id}", superseded=over, attempt=attempt)


async def test_what_moves_is_told_to_the_counters_of_its_own_time_and_principal(ledger: PostgresLedger) -> None:
    first = used(principal=BOB, end_time=START)
    await post(ledger, first)
    (result,) = await post(ledger, used(attempt="a2", begin=9, reservation_id="r2"))
    own, moved = result.settlements
    assert (own.reservation_id, own.amount, own.tokens) == ("r2", COST, 1_500)
    assert (moved.reservation_id, moved.amount, moved.tokens) == ("", -COST, -1_500)
    assert (moved.principal, moved.end_time) == (BOB, START)
    (again,) = await post(ledger, first)
    assert {one.transaction_id for one in again.settlements} == {own.transaction_id, moved.transaction_id}


FORGERIES = {
    "UPDATE transactions SET charged = NOT charged WHERE attempt_id <> ''": "q (attempt a1, run 1) is charged, but",
    "UPDATE transactions SET charged = false WHERE request_id = 'lone'": "lone (attempt unnamed, run 0) is waste",
    "INSERT INTO transactions (request_id, org, move) VALUES ('lone', 'acme', 1)": "to where it stood",
    "INSERT INTO transactions (request_id, org, move, charged) VALUES ('lone', 'acme', 1, false)": "do not move",
    "UPDATE entries SET account = 'tenant:acme' WHERE account = 'platform:waste'": "debits of waste sum to 0",
    "DELETE FROM usage_events WHERE attempt_id = 'a1'": "(request q) has no usage event",
}


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_place_is_named(database: Database, ledger: PostgresLedger, forgery: str) -> None:
    await post(ledger, used(), used(attempt="a2", begin=9), event("lone"))
    assert (await ledger.verify()).violations == ()
    async with database.transaction() as connection:
        await connection.execute("SET LOCAL session_replication_role = replica")
        await connection.execute(forgery.encode())
    violations = (await ledger.verify()).violations
    assert any(FORGERIES[forgery] in one for one in violations), violations


async def test_settlements_and_voids_wait_for_redis(database: Database, ledger: PostgresLedger) -> None:
    unsettled, seen = PostgresUnsettled(database), list[Settlement]()
    await post(ledger, used(reservation_id="r1"))
    (result,) = await post(ledger, used(attempt="a2", begin=9, reservation_id="r2"))
    await unsettled.remember(result.settlements)

    async def settles(settlements: Sequence[Settlement]) -> None:
        seen.extend(settlements)

    assert await unsettled.settle_some(settles, 10) == 2
    assert sorted(seen, key=str) == sorted(result.settlements, key=str)

    released = list[tuple[str, str]]()

    async def fails(org: str, reservation_id: str) -> bool:
        raise StoreUnavailable("away")

    async def releases(org: str, reservation_id: str) -> bool:
        released.append((org, reservation_id))
        return True

    await unsettled.remember_voids([Void("acme", "r1"), Void("acme", "r2")])
    await unsettled.remember_voids([Void("acme", "r1")])
    with pytest.raises(StoreUnavailable):
        await unsettled.release_some(fails, 10)
    assert await unsettled.release_some(releases, 10) == 2
    assert sorted(released) == [("acme", "r1"), ("acme", "r2")]
    assert await unsettled.release_some(releases, 10) == 0


async def test_books_of_an_older_release_stay_and_meet_newer_events(postgres_dsn: str) -> None:
    """The rows that the last release wrote, the migration, and another attempt at one of its requests."""
    older = [file for file in migrations() if file.number < 6]
    async with Database(postgres_dsn) as database:
        await migrate(database, older)
        await PostgresPrices(database).seed([price("small", Tier.SMALL, SMALL), price("large", Tier.LARGE, LARGE)])
        async with database.transaction() as connection:
            await connection.execute(_OLDER_BOOKS)
        await migrate(database)
        ledger = PostgresLedger(database)
        before = await ledger.verify()
        assert (before.usage_events, before.usage_total, before.violations) == (3, 3 * COST, ())
        await post(ledger, used(attempt="a1"))
        after = await ledger.verify()
        assert (after.usage_total, after.waste_total, after.violations) == (2 * COST, 2 * COST, ())


_ROW = """
INSERT INTO transactions (request_id, org) VALUES ('{name}', 'acme');
INSERT INTO entries SELECT max(transaction_id), 1, 'tenant:acme', 150000 FROM transactions;
INSERT INTO entries SELECT max(transaction_id), 2, 'pool:p', -150000 FROM transactions;
INSERT INTO usage_events (
  request_id, transaction_id, digest, org, team, user_id, key_id, end_time, reservation_id, cache_level, tier, task,
  pool, quantization, finish_reason, tags, model, price_version, fresh_input, cache_read, cache_write, output,
  reasoning, prices, cost, counterfactual_model, counterfactual_tokens, counterfactual_prices, counterfactual_cost,
  superseded_request_id, superseded_tokens)
SELECT '{name}', max(transaction_id), '', 'acme', '', '', '', '2026-01-01', '', 1, 1, 1,
       'p', '', 1, '{{}}', 'small', 2, 1000, 0, 0, 500, 0, '{{100000000,50000000,100000000,100000000,100000000}}',
       150000, 'large', '{{1000,0,0,500,0}}', '{{900000000,450000000,900000000,900000000,900000000}}', {compared},
       '{over}', '{before}'
  FROM transactions;
"""
_OLDER_BOOKS = "".join(
    [
        _ROW.format(name="q", compared=1_350_000, over="", before="{0,0,0,0,0}"),
        _ROW.format(name="lone", compared=1_350_000, over="", before="{0,0,0,0,0}"),
        # The second call of a cascade whose first was q.
        _ROW.format(name="q-2", compared=0, over="q", before="{1000,0,0,500,0}"),
    ]
).encode()
