"""One request through every service, and what its three messages say."""

from typing import Any

import pytest

from farthing.accounting.v1 import ledger_service_pb2, ledger_service_pb2_grpc
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1 import gateway_service_pb2_grpc as pb_grpc
from farthing.type.v1 import model_pb2
from farthing_cli import report
from farthing_kit.client import channel
from farthing_kit.money import cost
from farthing_kit.wire import prices_from_message, usage_from_message
from tests.support.mesh import MeshUnderTest, prompt


async def test_an_answer_comes_as_decision_deltas_and_final(mesh: MeshUnderTest) -> None:
    async with channel(mesh.address["gateway"]) as opened:
        stub = pb_grpc.GatewayServiceStub(opened)
        key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
        request = pb.GenerateRequest(prompt=prompt("one two three four"))
        events = [each.WhichOneof("event") async for each in stub.Generate(request, metadata=key)]
    assert events[0] == "decision"
    assert events[-1] == "final"
    assert len(events) >= 3
    assert set(events[1:-1]) == {"delta"}


async def test_the_decision_says_where_it_ran_and_what_was_reserved(mesh: MeshUnderTest) -> None:
    answer = await (await mesh.gateway()).ask(prompt("where did this run", no_cache=True))
    decision = answer.decision
    assert answer.text.strip() == "where did this run"
    assert decision.cache_level == model_pb2.CACHE_LEVEL_NONE
    assert (decision.model, decision.pool) == ("echo", "cpu-local")
    assert decision.reservation_id
    assert decision.reserved.nano_units >= answer.final.cost.nano_units
    assert decision.explanation
    assert not decision.degradations


@pytest.mark.parametrize("model", ["small", "medium"])
@pytest.mark.parametrize(
    "text",
    [
        "GATTACATTAGCCGATAGGCTAACGTTGCA" * 20,
        "aGVsbG8gd29ybGQsIHRoaXMgaXMgYmFzZTY0" * 16,
        "q u i e t l y , " * 30,
        "<pad><unk></s><|im_end|>" * 20,
    ],
)
async def test_no_prompt_however_odd_costs_more_than_was_reserved(mesh: MeshUnderTest, model: str, text: str) -> None:
    answer = await (await mesh.gateway()).ask(prompt(text, model=model, max_tokens=1, no_cache=True))
    assert answer.decision.reserved.nano_units >= answer.final.cost.nano_units > 0


async def test_cost_is_tokens_times_price_and_the_ledger_has_the_same(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway("abacus")
    answer = await gateway.ask(prompt("what does this cost", no_cache=True))
    prices = next(each.prices for each in await gateway.models() if each.name == "echo")
    expected = cost(usage_from_message(answer.final.usage), prices_from_message(prices))
    assert answer.final.usage.output_tokens == 4
    assert answer.final.cost.nano_units == expected
    await mesh.booked_request(answer.decision.request_id)
    async with mesh.client.as_operator() as opened:
        stub = ledger_service_pb2_grpc.LedgerServiceStub(opened)
        found = await stub.Query(ledger_service_pb2.QueryRequest(request_id=answer.decision.request_id))
    amounts = {entry.account: entry.amount.nano_units for entry in found.transactions[0].entries}
    assert amounts["tenant:abacus"] == expected
    assert sum(amounts.values()) == 0


async def test_a_repeated_question_costs_nothing_and_says_what_it_saved(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway()
    first = await gateway.ask(prompt("asked twice"))
    again = await gateway.ask(prompt("asked twice"))
    assert again.text == first.text
    assert again.decision.cache_level == model_pb2.CACHE_LEVEL_NEAR
    assert again.final.cost.nano_units == 0
    assert again.final.usage.output_tokens == 0
    assert again.final.saved.nano_units == first.final.counterfactual_cost.nano_units > 0


async def test_an_answer_outlives_the_gateway_in_the_shared_cache(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway()
    first = await gateway.ask(prompt("remember me"))
    assert not first.decision.degradations
    await mesh.stop("gateway")
    await mesh.start("gateway")
    await mesh.until_answers(prompt("back again"))
    again = await (await mesh.gateway()).ask(prompt("remember me"))
    assert not again.decision.degradations
    assert again.decision.cache_level == model_pb2.CACHE_LEVEL_EXACT
    assert (again.text, again.final.cost.nano_units) == (first.text, 0)


async def test_no_answer_crosses_from_one_tenant_to_another(mesh: MeshUnderTest) -> None:
    first = await (await mesh.gateway("lantern")).ask(prompt("a secret of lantern"))
    other = await (await mesh.gateway("foundry")).ask(prompt("a secret of lantern"))
    assert first.decision.cache_level == model_pb2.CACHE_LEVEL_NONE
    assert other.decision.cache_level == model_pb2.CACHE_LEVEL_NONE


async def test_parameters_that_shape_the_answer_are_part_of_the_key(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway()
    await gateway.ask(prompt("five words are in here", max_tokens=2))
    longer = await gateway.ask(prompt("five words are in here", max_tokens=5))
    assert longer.decision.cache_level == model_pb2.CACHE_LEVEL_NONE
    assert longer.final.usage.output_tokens == 5


async def test_a_request_without_a_model_is_classified_and_routed_to_a_tier(mesh: MeshUnderTest) -> None:
    models = {each.tier for each in await (await mesh.gateway()).models()}
    assert {model_pb2.TIER_SMALL, model_pb2.TIER_MEDIUM, model_pb2.TIER_LARGE} <= models


async def test_the_report_adds_up_however_it_is_grouped(mesh: MeshUnderTest) -> None:
    for by in report.GROUPS:
        response = await report.fetch(mesh.client, by, None)
        assert sum(row.cost.nano_units for row in response.rows) == response.total.cost.nano_units
        assert sum(row.requests for row in response.rows) == response.total.requests
        total: Any = report.as_dict(response)["total"]
        assert total["requests"] == response.total.requests


async def test_the_books_add_up(mesh: MeshUnderTest) -> None:
    books = await report.verify(mesh.client)
    assert not books.violations
    assert books.ledger_total.nano_units == books.usage_total.nano_units
