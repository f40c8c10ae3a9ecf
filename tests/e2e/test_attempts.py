"""Attempts at one request, on the whole mesh: whatever becomes of them, the request is charged once, within its budget,
and nothing stays held."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import budget_service_pb2_grpc as budget_grpc
from farthing.accounting.v1 import ledger_service_pb2 as ledger_pb
from farthing.accounting.v1 import ledger_service_pb2_grpc as ledger_grpc
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli import report, tenants
from farthing_cli.generation import Answer, Gateway, Show
from farthing_kit.client import channel
from farthing_kit.errors import FarthingError
from tests.support.mesh import MeshUnderTest, prompt

R = ErrorReason
# What echo-slow says slowly, so that a caller can leave in the middle.
LONG = " ".join(f"word{number}" for number in range(60))
TENANT = """
[[tenant]]
org = "{org}"
[tenant.policy]
max_output_tokens = 256
cache = true
outage = "deny"
{policy}
[[tenant.budget]]
scope = "org"
window = "month"
limit_usd = "{limit}"
limit_concurrency = 64
[[tenant.key]]
user = "u"
"""
SETTLED_WITHIN_S = 30.0
POLL_S = 0.05
NANOS = 10**9


async def made(mesh: MeshUnderTest, org: str, limit: str = "1.00", policy: str = "") -> str:
    """The key of a new organisation."""
    file = mesh.folder.path / f"{org}.toml"
    file.write_text(TENANT.format(org=org, limit=limit, policy=policy))
    return (await tenants.apply(mesh.client, file)).get(org, "")


@asynccontextmanager
async def calling(address: str, key: str, timeout_s: float = 30.0) -> AsyncIterator[Gateway]:
    async with channel(address) as opened:
        yield Gateway(opened, key, timeout_s)


def slow(text: str, key: str) -> pb.Prompt:
    asked = prompt(f"{text} {LONG}", model="echo-slow", max_tokens=100, no_cache=True)
    asked.idempotency_key = key
    return asked


async def standing(mesh: MeshUnderTest, org: str) -> budget_pb.BudgetState:
    """What is spent and held of the organisation's money."""
    async with mesh.client.as_operator() as opened:
        stub = budget_grpc.BudgetServiceStub(opened)
        return (await stub.ListBudgets(budget_pb.ListBudgetsRequest(org=org))).budgets[0]


async def at_rest(mesh: MeshUnderTest, org: str) -> budget_pb.BudgetState:
    """The same once nothing is held and nothing is in flight."""
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while (found := await standing(mesh, org)).reserved.nano_units or found.in_flight:
            await asyncio.sleep(POLL_S)
    return found


async def costs(mesh: MeshUnderTest, org: str) -> report_pb.CostRow:
    """The organisation's line of the report."""
    rows = (await report.fetch(mesh.client, "tenant", None)).rows
    return next((row for row in rows if row.group == org), report_pb.CostRow())


async def left_after(gateway: Gateway, asked: pb.Prompt, pieces: int) -> None:
    """Ask, and leave after some pieces of the answer. The attempt before may still be on its way out of the queue."""
    seen, count = asyncio.Event(), 0

    def show(_: str) -> None:
        nonlocal count
        count += 1
        if count >= pieces:
            seen.set()

    asking, waiting = asyncio.ensure_future(answered(gateway, asked, show)), asyncio.ensure_future(seen.wait())
    await asyncio.wait({asking, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    asking.cancel()
    await asyncio.wait({asking, waiting})
    assert asking.cancelled()


async def test_twins_on_two_gateways_stay_within_a_budget_for_one(mesh: MeshUnderTest) -> None:
    key = await made(mesh, "twins")
    async with (
        mesh.another("gateway") as other,
        calling(mesh.address["gateway"], key) as one,
        calling(other, key) as two,
    ):
        first = await one.ask(slow("first", "twins 0"))
        hold, cost = first.decision.reserved.nano_units, first.final.cost.nano_units
        await at_rest(mesh, "twins")
        limit = cost + hold + cost // 2  # what is spent, room for one, and not for two
        await made(mesh, "twins", f"{limit // NANOS}.{limit % NANOS:09d}")
        asked = [slow(f"twin {number}", f"twins {number}") for number in range(1, 13)]
        ended = await asyncio.gather(*(way.ask(each) for each in asked for way in (one, two)), return_exceptions=True)
        found = await at_rest(mesh, "twins")

    refusals = [error.reason for error in ended if isinstance(error, FarthingError)]
    assert set(refusals) <= {R.ERROR_REASON_BUDGET_EXCEEDED, R.ERROR_REASON_IN_PROGRESS, R.ERROR_REASON_QUOTA_EXCEEDED}
    assert len(refusals) < len(ended)
    assert found.spent.nano_units <= limit
    told = first.final.cost.nano_units + sum(
        each.final.cost.nano_units for each in ended if not isinstance(each, BaseException)
    )
    assert found.spent.nano_units == told


@pytest.mark.parametrize("pieces", [1, 3, 10])
async def test_who_leaves_and_asks_again_under_the_key_pays_once(mesh: MeshUnderTest, pieces: int) -> None:
    org = f"leaver-{pieces}"
    key = await made(mesh, org)
    async with calling(mesh.address["gateway"], key) as gateway:
        asked = slow("left twice", f"k{pieces}")
        for _ in range(2):
            await left_after(gateway, asked, pieces)
        answer = await answered(gateway, asked)
        again = await gateway_error(gateway, asked)
    found = await at_rest(mesh, org)
    booked = await costs(mesh, org)
    assert again.reason == R.ERROR_REASON_ANSWER_GONE
    assert found.spent.nano_units == booked.cost.nano_units == answer.final.cost.nano_units
    assert booked.requests == 1


async def test_deadlines_that_pass_in_the_middle_hold_nothing_and_a_retry_pays_once(mesh: MeshUnderTest) -> None:
    key = await made(mesh, "late")
    asked = slow("late", "late 1")
    async with calling(mesh.address["gateway"], key, 0.6) as hasty, calling(mesh.address["gateway"], key) as patient:
        for _ in range(2):
            error = await gateway_error(hasty, asked)
            assert error.reason in (R.ERROR_REASON_DEADLINE_EXCEEDED, R.ERROR_REASON_DEADLINE_TOO_SHORT)
            assert (await at_rest(mesh, "late")).in_flight == 0
        answer = await answered(patient, asked)
    found = await at_rest(mesh, "late")
    assert found.spent.nano_units == answer.final.cost.nano_units
    assert (await costs(mesh, "late")).requests == 1


async def test_a_key_whose_answer_was_not_kept_is_refused_however_often(mesh: MeshUnderTest) -> None:
    key = await made(mesh, "forgetful")
    asked = prompt("no_store", no_cache=True)
    asked.idempotency_key = "gone"
    async with calling(mesh.address["gateway"], key) as gateway:
        answer = await gateway.ask(asked)
        errors = [await gateway_error(gateway, asked) for _ in range(5)]
    found = await at_rest(mesh, "forgetful")
    assert {error.reason for error in errors} == {R.ERROR_REASON_ANSWER_GONE}
    assert found.spent.nano_units == answer.final.cost.nano_units
    assert (await costs(mesh, "forgetful")).requests == 1


async def test_another_gateway_answers_again_for_the_same_single_charge(mesh: MeshUnderTest) -> None:
    key = await made(mesh, "moved")
    asked = slow("moved", "moved 1")
    async with (
        mesh.another("gateway") as other,
        calling(mesh.address["gateway"], key) as one,
        calling(other, key) as two,
    ):
        first, second = await one.ask(asked), await two.ask(asked)
        found = await at_rest(mesh, "moved")
    assert first.decision.request_id == second.decision.request_id
    assert found.spent.nano_units == second.final.cost.nano_units
    assert (await costs(mesh, "moved")).requests == 1


@pytest.mark.parametrize("share", [0, 0.1])
async def test_asking_again_where_a_cache_answers_is_no_discount(mesh: MeshUnderTest, share: float) -> None:
    org = f"asks-again-{share * 100:.0f}"
    key = await made(mesh, org, policy=f"hit_price_share = {share}")
    asked = prompt(f"{org} at two gateways")
    asked.idempotency_key = "again 1"
    async with (
        mesh.another("gateway") as other,
        calling(mesh.address["gateway"], key) as one,
        calling(other, key) as two,
    ):
        first = await one.ask(asked)
        await mesh.booked_request(first.decision.request_id)
        hit = await two.ask(asked)
    assert hit.decision.cache_level == model_pb2.CACHE_LEVEL_EXACT
    assert hit.decision.request_id == first.decision.request_id
    await booked_events(mesh, hit.decision.request_id, 2)
    found = await at_rest(mesh, org)
    assert found.spent.nano_units == first.final.cost.nano_units > hit.final.cost.nano_units
    assert list((await report.verify(mesh.client)).violations) == []


async def booked_events(mesh: MeshUnderTest, request_id: str, count: int) -> None:
    """Wait until the ledger has that many events of a request."""
    query = ledger_pb.QueryRequest(request_id=request_id)
    async with asyncio.timeout(SETTLED_WITHIN_S), mesh.client.as_operator() as opened:
        stub = ledger_grpc.LedgerServiceStub(opened)
        while len((await stub.Query(query)).transactions) < count:
            await asyncio.sleep(POLL_S)


async def gateway_error(gateway: Gateway, asked: pb.Prompt) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        await gateway.ask(asked)
    return caught.value


async def answered(gateway: Gateway, asked: pb.Prompt, show: Show = lambda _: None) -> Answer:
    """Ask until it is answered: the attempt before may not have left the queue."""
    async with asyncio.timeout(SETTLED_WITHIN_S):
        while True:
            try:
                return await gateway.ask(asked, show)
            except FarthingError as error:
                if error.reason != R.ERROR_REASON_IN_PROGRESS:
                    raise
                await asyncio.sleep(POLL_S)
