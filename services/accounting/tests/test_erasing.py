"""A tenant that is forgotten: no key, no name, no tag is left, and the books add up as before."""

from __future__ import annotations

import psycopg
import pytest

from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.accounting.v1.report_service_pb2 import GROUP_BY_TAG, GROUP_BY_USER
from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1.principal_pb2 import Principal
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_accounting.adapters.postgres import tenants
from farthing_accounting.adapters.postgres.database import Database
from services.accounting.tests.client import Accounting, once, usage_event
from services.accounting.tests.test_faults import COST, HELD, quote_of

CANARY = "ada-lovelace"


async def test_a_tenant_is_erased_and_its_amounts_stay(
    accounting: Accounting, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tenants, "_AT_ONCE", 2)
    await accounting.operator.keys.CreateKey(key_pb.CreateKeyRequest(idempotency_key=once(), org="acme", user=CANARY))
    await accounting.set_budget(kind="USER", name=CANARY, money=10 * HELD)
    quote = await quote_of(accounting)
    events = [usage_event(f"q{number}", quote, tags={"who": CANARY}) for number in range(5)]
    for event in events[:4]:
        event.principal.user = CANARY
    events[4].principal.org = "globex"
    poison = UsageEvent(request_id="p", principal=Principal(org="acme", user=CANARY), usage=TokenUsage(output_tokens=1))
    await accounting.publish(*events, poison)
    await accounting.until_settled()
    before = await accounting.verified()

    erased = await accounting.operator.keys.EraseTenant(key_pb.EraseTenantRequest(org="acme"))
    assert (erased.keys, erased.usage_events) == (1, 4)
    assert not (await accounting.operator.keys.ListKeys(key_pb.ListKeysRequest(org="acme"))).keys
    after = await accounting.verified()
    assert (after.ledger_total, list(after.violations)) == (before.ledger_total, [])
    users = await accounting.costs(GROUP_BY_USER, org="acme")
    assert [(row.cost.nano_units, row.group.startswith("erased-")) for row in users.rows] == [(4 * COST, True)]
    others = await accounting.costs(GROUP_BY_TAG, org="globex", tag_key="who")
    assert [row.group for row in others.rows] == [CANARY]
    assert CANARY not in await everything_about(database, "acme")
    js = accounting.nats.jetstream()
    assert (await js.stream_info("DLQ")).state.messages == 0
    assert (await js.stream_info("USAGE", subjects_filter="usage.>")).state.subjects is None
    # Limits can be set and are held anew: their version did not go back.
    again = await accounting.operator.keys.EraseTenant(key_pb.EraseTenantRequest(org="acme"))
    assert (again.keys, again.usage_events) == (0, 0)
    await accounting.set_budget(money=10 * HELD)
    await accounting.reserve("r9")


async def everything_about(database: Database, org: str) -> str:
    """All rows of an organisation, as text."""
    found = ""
    async with database.transaction() as connection:
        for table in ("keys", "budgets", "policies", "transactions", "usage_events", "erasures"):
            cursor = await connection.execute(f"SELECT t::text FROM {table} t WHERE org = %s".encode(), (org,))
            found += "\n".join(row[0] for row in await cursor.fetchall())
    return found


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE usage_events SET user_id = 'x', tags = '{}', cost = 0 WHERE org = 'acme'",
        "UPDATE usage_events SET user_id = 'x', tags = '{\"a\": \"b\"}' WHERE org = 'acme'",
        "UPDATE usage_events SET user_id = 'x', tags = '{}' WHERE org = 'globex'",
        "DELETE FROM usage_events WHERE org = 'acme'",
        "DELETE FROM erasures",
    ],
)
async def test_erasing_changes_nothing_else(accounting: Accounting, database: Database, change: str) -> None:
    quote = await quote_of(accounting)
    event = usage_event("q2", quote)
    event.principal.org = "globex"
    await accounting.publish(usage_event("q1", quote), event)
    await accounting.until_settled()
    await accounting.operator.keys.EraseTenant(key_pb.EraseTenantRequest(org="acme"))
    async with database.transaction() as connection:
        await connection.execute("SELECT set_config('accounting.erasing', 'acme', false)")
        with pytest.raises(psycopg.errors.RestrictViolation):
            await connection.execute(change.encode())
        await connection.execute("ROLLBACK")


async def test_only_operators_erase(accounting: Accounting) -> None:
    with pytest.raises(Exception, match="may not call"):
        await accounting.tenant.keys.EraseTenant(key_pb.EraseTenantRequest(org="acme"))
