"""Hits that cost something, on the whole mesh: what callers are told, what the ledger has, and who is refused."""

import asyncio
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import budget_service_pb2_grpc as budget_rpc
from farthing.accounting.v1 import ledger_service_pb2 as ledger_pb
from farthing.accounting.v1 import ledger_service_pb2_grpc as ledger_rpc
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_accounting.adapters.nats.events import event_from
from farthing_accounting.domain.ledger import book
from farthing_accounting.domain.usage import UsageEvent
from farthing_cli import report, tenants
from farthing_cli.generation import Answer, Gateway
from farthing_gateway.adapters.usage import OutboxUsageBook
from farthing_gateway.domain import costs
from farthing_gateway.domain.answer import Answer as Cached
from farthing_gateway.domain.attempt import Attempt
from farthing_gateway.domain.catalogue import Quote
from farthing_gateway.domain.model import CacheLevel, Tier
from farthing_gateway.ports import CachedUse
from farthing_kit.client import channel
from farthing_kit.context import Principal, Priority, RequestContext, Role
from farthing_kit.errors import FarthingError
from farthing_kit.money import NANOS_PER_USD, WHOLE, HitPrice, Millionths, NanoUsd, UnitPrices
from farthing_kit.usage import TokenUsage
from tests.support.evidence import trust
from tests.support.mesh import POLL_S, MeshUnderTest, prompt

NONE, NEAR = model_pb2.CACHE_LEVEL_NONE, model_pb2.CACHE_LEVEL_NEAR
EXACT, SEMANTIC = model_pb2.CACHE_LEVEL_EXACT, model_pb2.CACHE_LEVEL_SEMANTIC
TENTH = HitPrice(1, Millionths(100_000))
ASKED, SAME = "What is the capital of France?", "what's the capital of France"
LONG = " ".join(f"word{number}" for number in range(60))
TENANT = """
[[tenant]]
org = "{org}"
[tenant.policy]
default_tier = "small"
max_tier = "large"
max_output_tokens = 256
cache = true
cache_seconds = 3600
max_error_share = 0.02
hit_price_share = {share}
[[tenant.key]]
user = "u"
"""
BUDGET = """
[[tenant.budget]]
scope = "org"
window = "month"
limit_usd = "{limit}"
"""
TRIES, AT_ONCE = 40, 4
SETTLED_WITHIN_S = 30.0

# --- the rule, in the gateway and in the ledger

TOKENS = st.builds(TokenUsage, *[st.integers(0, 10**6)] * 5)
PRICES = st.builds(UnitPrices, *[st.integers(0, 10**12)] * 5)


class Paper:
    """An outbox that keeps the bytes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    async def append(self, message_id: str, subject: str, payload: bytes) -> None:
        self.written.append(payload)


@given(TOKENS, PRICES, PRICES, st.integers(0, WHOLE))
def test_what_a_caller_is_told_is_what_the_ledger_makes_of_the_event(
    tokens: TokenUsage, own: UnitPrices, dear: UnitPrices, share: int
) -> None:
    price, paper, now = HitPrice(4, Millionths(share)), Paper(), datetime(2026, 1, 1, tzinfo=UTC)
    context = RequestContext("q_1", Principal("acme"), Role.TENANT, Priority.NORMAL)
    answer, quote = Cached("x", tokens, Tier.SMALL, "m", "INT4", now), Quote(2, "m", own, "l", dear)
    use = CachedUse(context, Attempt("q_1", "a_1", now), CacheLevel.SEMANTIC, answer, quote, {}, now, price, "q_1-hit")
    asyncio.run(OutboxUsageBook(paper).record(use))  # type: ignore[arg-type]
    event = event_from(paper.written[0])
    assert isinstance(event, UsageEvent)
    booking, told = book(event), costs.of_hit(tokens, quote, price)
    assert (booking.cost, booking.counterfactual_cost) == (told.cost, told.counterfactual)
    assert told.cost + told.saved == told.counterfactual


# --- on the mesh


async def key_of(mesh: MeshUnderTest, org: str, share: float = 0.1) -> str:
    """A key of an organisation that pays this share for hits."""
    return (await applied(mesh, org, TENANT.format(org=org, share=share)))[org]


async def caller(mesh: MeshUnderTest, key: str, address: str = "") -> Gateway:
    opened = await mesh._stack.enter_async_context(channel(address or mesh.address["gateway"]))
    return Gateway(opened, key, 60.0)


async def applied(mesh: MeshUnderTest, org: str, text: str) -> dict[str, str]:
    file = mesh.folder.path / f"{org}.toml"
    file.write_text(text)
    return await tenants.apply(mesh.client, file)


async def limit(mesh: MeshUnderTest, org: str, nano_usd: int) -> None:
    """Set what an organisation may spend in a month."""
    amount = f"{nano_usd // NANOS_PER_USD}.{nano_usd % NANOS_PER_USD:09d}"
    await applied(mesh, org, f'[[tenant]]\norg = "{org}"\n{BUDGET.format(limit=amount)}')


def told_right(hit: Answer, spared: Answer) -> bool:
    """Whether a hit was told its price, a tenth of the call that it spared, and the saving net of it."""
    cost, would = hit.final.cost.nano_units, hit.final.counterfactual_cost.nano_units
    assert would == spared.final.counterfactual_cost.nano_units
    return cost == TENTH.of(NanoUsd(spared.final.cost.nano_units)) > 0 and hit.final.saved.nano_units == would - cost


async def semantic(gateway: Gateway) -> list[Answer]:
    """Answers up to a semantic hit: a few percent of would-be hits are explored, and what was stored a moment ago may
    not be there yet."""
    asked = prompt(SAME)
    asked.cache_control.CopyFrom(pb.CacheControl(no_store=True))
    answers: list[Answer] = []
    while len(answers) < TRIES and (not answers or answers[-1].decision.cache_level != SEMANTIC):
        answers.append(await gateway.ask(asked))
    return answers


async def standing(mesh: MeshUnderTest, org: str) -> budget_pb.BudgetState:
    """The budget of an organisation once nothing of it is held."""
    async with asyncio.timeout(SETTLED_WITHIN_S), mesh.client.as_operator() as opened:
        stub = budget_rpc.BudgetServiceStub(opened)
        while True:
            [state] = (await stub.ListBudgets(budget_pb.ListBudgetsRequest(org=org))).budgets
            if not state.reserved.nano_units:
                return state
            await asyncio.sleep(POLL_S)


async def row_of(mesh: MeshUnderTest, org: str) -> report_pb.CostRow:
    return next(row for row in (await report.fetch(mesh.client, "tenant", None)).rows if row.group == org)


async def entries(mesh: MeshUnderTest, request_id: str) -> dict[str, int]:
    """What the ledger has of a request, by account."""
    await mesh.booked_request(request_id)
    async with mesh.client.as_operator() as opened:
        query = ledger_pb.QueryRequest(request_id=request_id)
        [transaction] = (await ledger_rpc.LedgerServiceStub(opened).Query(query)).transactions
    return {entry.account: entry.amount.nano_units for entry in transaction.entries}


async def all_levels(mesh: MeshUnderTest, org: str) -> list[Answer]:
    """Answers of an organisation: of a model, of each level of the cache, and along with another request."""
    key = await key_of(mesh, org)
    gateway = await caller(mesh, key)
    answers = [await gateway.ask(prompt(ASKED)), await gateway.ask(prompt(ASKED))]
    async with mesh.another("gateway") as address:
        answers.append(await (await caller(mesh, key, address)).ask(prompt(ASKED)))
    answers += await semantic(gateway)
    slow = prompt(LONG, model="echo-slow", max_tokens=256)
    return answers + list(await asyncio.gather(*(gateway.ask(slow) for _ in range(AT_ONCE))))


async def test_hits_of_every_level_cost_their_share_and_the_books_agree(mesh: MeshUnderTest) -> None:
    await trust(mesh, "priced")
    answers = await all_levels(mesh, "priced")
    hits = [answer for answer in answers if answer.decision.cache_level != NONE]
    assert {answer.decision.cache_level for answer in hits} == {NEAR, EXACT, SEMANTIC}
    wrote = {answer.text: answer for answer in answers if answer.decision.cache_level == NONE}
    assert [answer for answer in hits if not told_right(answer, wrote[answer.text])] == []
    assert sum(answer.text == LONG for answer in hits) == AT_ONCE - 1
    for answer in hits:
        cost = answer.final.cost.nano_units
        assert await entries(mesh, answer.decision.request_id) == {"tenant:priced": cost, "cache": -cost}
        assert answer.decision.reserved.nano_units >= cost
    for answer in answers:
        await mesh.booked_request(answer.decision.request_id)
    row = await row_of(mesh, "priced")
    assert (row.requests, row.cache_hits) == (len(answers), len(hits))
    assert row.cost.nano_units == sum(answer.final.cost.nano_units for answer in answers)
    assert row.saved.nano_units == sum(answer.final.saved.nano_units for answer in answers)
    books = await report.verify(mesh.client)
    assert list(books.violations) == []
    assert books.ledger_total == books.usage_total


async def asked_once(mesh: MeshUnderTest, org: str, share: float) -> tuple[Gateway, int, NanoUsd]:
    """An organisation that asked once: its gateway, what it has spent, and what a tenth of that is."""
    gateway = await caller(mesh, await key_of(mesh, org, share))
    answer = await gateway.ask(prompt(ASKED))
    await mesh.booked_request(answer.decision.request_id)
    price = TENTH.of(NanoUsd(answer.final.cost.nano_units))
    return gateway, answer.final.cost.nano_units, price


async def refuses(gateway: Gateway) -> FarthingError:
    with pytest.raises(FarthingError) as refused:
        await gateway.ask(prompt(ASKED))
    assert refused.value.reason == ErrorReason.ERROR_REASON_BUDGET_EXCEEDED
    return refused.value


async def test_a_spent_budget_refuses_a_hit_that_costs(mesh: MeshUnderTest) -> None:
    gateway, spent, price = await asked_once(mesh, "paying", 0.1)
    await limit(mesh, "paying", spent + price - 1)
    await standing(mesh, "paying")
    assert (await refuses(gateway)).metadata["remaining_nano_usd"] == str(price - 1)
    await limit(mesh, "paying", spent + price)
    hit = await gateway.ask(prompt(ASKED))
    assert (hit.decision.cache_level, hit.final.cost.nano_units) == (NEAR, price)
    await refuses(gateway)
    await mesh.booked_request(hit.decision.request_id)
    assert (await standing(mesh, "paying")).spent.nano_units == spent + price


async def test_a_spent_budget_refuses_no_hit_that_is_free(mesh: MeshUnderTest) -> None:
    gateway, spent, _ = await asked_once(mesh, "free", 0)
    await limit(mesh, "free", spent)
    hit = await gateway.ask(prompt(ASKED))
    assert (hit.decision.cache_level, hit.final.cost.nano_units) == (NEAR, 0)


async def test_a_hit_that_is_told_again_under_its_key_is_charged_once(mesh: MeshUnderTest) -> None:
    gateway = await caller(mesh, await key_of(mesh, "twice"))
    made = await gateway.ask(prompt(ASKED))
    asked = prompt(ASKED)
    asked.idempotency_key = "once"
    first, again = await gateway.ask(asked), await gateway.ask(asked)
    assert told_right(first, made)
    assert (again.final.cost.nano_units, again.decision.request_id) == (0, first.decision.request_id)
    assert (await entries(mesh, first.decision.request_id))["tenant:twice"] == first.final.cost.nano_units
