"""Cascades on the whole mesh: the real classifier and judge, models that echo, the real ledger."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from farthing.accounting.v1 import ledger_service_pb2, ledger_service_pb2_grpc, report_service_pb2
from farthing.classifier.v1 import classifier_service_pb2 as classifier_pb
from farthing.classifier.v1.classifier_service_pb2_grpc import ClassifierServiceStub
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from farthing.inference.v1 import inference_service_pb2 as inference_pb
from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing.type.v1 import model_pb2
from farthing_cli import heads, report, tenants
from farthing_cli.generation import Answer
from farthing_cli.state import StateFolder
from farthing_kit.client import channel
from farthing_kit.money import cost
from farthing_kit.wire import prices_from_message, usage_from_message
from tests.support.mesh import POLL_S, POOLS, MeshUnderTest, prompt

ORG = "cascadia"
TENANT = f"""
[[tenant]]
org = "{ORG}"
[tenant.policy]
default_tier = "medium"
max_tier = "large"
max_output_tokens = 256
cache = true
outage = "deny"
min_quality_floor = 0.05
cascade = true
[[tenant.key]]
team = "judged"
"""
WORDS = 64
# Each is its own answer, since the models echo. Some do well in the judge's eyes, some do not.
CANDIDATES = (
    "Solve the puzzle. First, 5 * 4 = 20. Then 20 + 8 = 28. Then 28 / 7 = 4. So the final answer is 4.",
    "Tom has 3 boxes with 12 apples and eats 7. 3 * 12 = 36 and 36 - 7 = 29. How many are left? The answer is 29.",
    'Extract the names as JSON: Ada and Bob. {"names": ["Ada", "Bob"]}',
    "Tom has 3 boxes with 12 apples and eats 7. 3 * 12 = 39 and 39 - 7 = 45. How many are left? The answer is 45.",
    "A train drives 60 miles an hour for 4 hours. 60 * 4 = 250, and 250 / 2 = 60. How far is that, and half of it?",
    "I am sorry, but I cannot answer that question. What would you say instead?",
)


@dataclass(frozen=True)
class Case:
    """A prompt and a floor for it, at which its echo is, or is not, accepted."""

    text: str
    floor: float
    acceptable: float

    def prompt(self, **options: bool) -> pb.Prompt:
        asked = prompt(self.text, model="", max_tokens=WORDS, **options)
        asked.quality_floor = self.floor
        return asked


async def case(mesh: MeshUnderTest, *, accepted: bool) -> Case:
    """One that the judge of this mesh accepts at some floor above what the small tier promises, or one that it does
    not; no cascade begins unless that promise is in the middle band."""
    async with mesh.inside("classifier") as opened:
        stub = ClassifierServiceStub(opened)
        for text in CANDIDATES:
            messages = [model_pb2.ChatMessage(role=model_pb2.CHAT_ROLE_USER, content=text)]
            seen = await stub.Analyze(classifier_pb.AnalyzeRequest(messages=messages, omit_embedding=True), timeout=5.0)
            small = seen.tiers[0].success
            judged = await stub.Judge(
                classifier_pb.JudgeRequest(
                    messages=messages,
                    answer=text,
                    finish_reason=model_pb2.FINISH_REASON_STOP,
                    task=seen.task,
                    tier=model_pb2.TIER_SMALL,
                    prior_success=small,
                ),
                timeout=5.0,
            )
            floor = (small + judged.acceptable) / 2 if accepted else small + 0.02
            fits = judged.acceptable >= floor if accepted else judged.acceptable < floor
            sure = classifier_pb.ANALYSIS_FLAG_NO_SIGNAL not in seen.flags and seen.uncertainty < 0.95
            if sure and fits and 0.3 < small < floor < seen.tiers[2].success and small < 0.9:
                return Case(text, floor, judged.acceptable)
    pytest.fail(f"no candidate is {'accepted' if accepted else 'refused'} by this judge; add one")


async def join(mesh: MeshUnderTest, folder: Path) -> None:
    """Make the tenant whose policy cascades."""
    file = folder / "cascadia.toml"
    file.write_text(TENANT)
    made = await tenants.apply(mesh.client, file)
    mesh.folder.write_keys({**mesh.folder.keys(), **made})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def cascading(servers_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MeshUnderTest]:
    async with MeshUnderTest(with_middle_band(servers_dir / "cascading")) as mesh:
        await join(mesh, tmp_path_factory.mktemp("cascades"))
        yield mesh


def with_middle_band(state: Path) -> Path:
    """A state folder with a calibration for which every prompt is worth a cascade, whatever the heads say of it."""
    folder = StateFolder(state)
    folder.prepare()
    folder.calibration_file.write_text(json.dumps(_middle_band()))
    return state


def _middle_band() -> dict[str, object]:
    success = {"small": 0.5, "medium": 0.75, "large": 0.92}
    tiers = {
        tier: {"scores": [-20.0, 20.0], "probabilities": [about - 0.01, about + 0.01]}
        for tier, about in success.items()
    }
    return {"version": "middle-band", "heads": heads.version(), "tiers": tiers}


async def ask(mesh: MeshUnderTest, asked: pb.Prompt) -> Answer:
    return await (await mesh.gateway(ORG)).ask(asked)


async def booked(mesh: MeshUnderTest, request_id: str) -> int:
    """What the tenant owes for a call."""
    await mesh.booked_request(request_id)
    async with mesh.client.as_operator() as opened:
        stub = ledger_service_pb2_grpc.LedgerServiceStub(opened)
        found = await stub.Query(ledger_service_pb2.QueryRequest(request_id=request_id))
    return next(e.amount.nano_units for e in found.transactions[0].entries if e.account == f"tenant:{ORG}")


async def total(mesh: MeshUnderTest) -> report_service_pb2.CostRow:
    rows = (await report.fetch(mesh.client, "tenant", None)).rows
    return next((row for row in rows if row.group == ORG), report_service_pb2.CostRow())


async def by_tier(mesh: MeshUnderTest) -> dict[str, int]:
    """The requests' costs by the tier that they were made on."""
    return {row.group: row.cost.nano_units for row in (await report.fetch(mesh.client, "tier", None)).rows}


async def test_an_accepted_answer_is_one_call_of_the_small_model(cascading: MeshUnderTest) -> None:
    chosen = await case(cascading, accepted=True)
    answer = await ask(cascading, chosen.prompt(no_cache=True))
    decision, final = answer.decision, answer.final
    assert answer.text == chosen.text
    assert (decision.tier, decision.buffered) == (model_pb2.TIER_SMALL, True)
    assert decision.routing.reason == pb.ROUTING_REASON_CASCADE
    assert not decision.degradations
    [call] = final.calls
    assert call.verdict.accepted
    assert call.verdict.acceptable == pytest.approx(chosen.acceptable, abs=0.01)
    assert await booked(cascading, decision.request_id) == final.cost.nano_units == call.cost.nano_units


async def test_an_escalated_answer_is_two_calls_and_both_are_booked(cascading: MeshUnderTest) -> None:
    chosen = await case(cascading, accepted=False)
    answer = await ask(cascading, chosen.prompt(no_cache=True))
    decision, final = answer.decision, answer.final
    assert answer.text == chosen.text
    assert decision.tier > model_pb2.TIER_SMALL
    assert not decision.buffered
    first, second = final.calls
    assert (first.request_id, first.tier) == (decision.request_id, model_pb2.TIER_SMALL)
    assert (second.request_id, second.tier) == (f"{decision.request_id}-2", decision.tier)
    assert not first.verdict.accepted
    prices = {each.name: prices_from_message(each.prices) for each in await (await cascading.gateway(ORG)).models()}
    for call in final.calls:
        assert await booked(cascading, call.request_id) == call.cost.nano_units
        assert call.cost.nano_units == cost(usage_from_message(call.usage), prices[call.model])
    assert final.cost.nano_units == first.cost.nano_units + second.cost.nano_units
    assert final.counterfactual_cost.nano_units == cost(usage_from_message(second.usage), prices["large"])


async def test_in_one_piece_the_same_is_said_and_done(cascading: MeshUnderTest) -> None:
    key = (("authorization", f"Bearer {cascading.client.api_key(ORG)}"),)
    for accepted, calls in ((True, 1), (False, 2)):
        chosen = await case(cascading, accepted=accepted)
        async with channel(cascading.address["gateway"]) as opened:
            request = pb.CompleteRequest(prompt=chosen.prompt(no_cache=True))
            response = await GatewayServiceStub(opened).Complete(request, metadata=key, timeout=30.0)
        assert response.text == chosen.text
        assert len(response.final.calls) == calls
        assert response.final.cost.nano_units == sum(call.cost.nano_units for call in response.final.calls)


async def test_an_answer_from_the_cache_says_which_tier_wrote_it_and_calls_nobody(cascading: MeshUnderTest) -> None:
    chosen = await case(cascading, accepted=True)
    first = await ask(cascading, chosen.prompt())
    again = await ask(cascading, chosen.prompt())
    assert (again.text, again.decision.tier) == (first.text, first.decision.tier)
    assert again.decision.cache_level != model_pb2.CACHE_LEVEL_NONE
    assert not again.final.calls
    await cascading.booked_request(again.decision.request_id)  # by the gateway: it may come after what workers book


async def test_a_caller_hears_of_one_request_and_the_books_have_what_it_was_told(cascading: MeshUnderTest) -> None:
    """Reports count requests and not calls; cost and counterfactual are those that the callers heard."""
    cases = [await case(cascading, accepted=accepted) for accepted in (True, False)]
    before = await _settled(cascading)
    answers = await asyncio.gather(*(ask(cascading, cases[n % 2].prompt(no_cache=True)) for n in range(20)))
    for answer in answers:
        for call in answer.final.calls:
            await cascading.booked_request(call.request_id)
    after = await total(cascading)
    assert sum(len(answer.final.calls) for answer in answers) == 30
    assert after.requests - before.requests == 20
    told = sum(answer.final.cost.nano_units for answer in answers)
    assert after.cost.nano_units - before.cost.nano_units == told
    compared = sum(answer.final.counterfactual_cost.nano_units for answer in answers)
    assert after.counterfactual_cost.nano_units - before.counterfactual_cost.nano_units == compared
    books = await report.verify(cascading.client)
    assert not books.violations
    assert books.ledger_total.nano_units == books.usage_total.nano_units


async def _settled(mesh: MeshUnderTest) -> report_service_pb2.CostRow:
    """The tenant's total once a last request of it is booked: what came before it is, too."""
    last = await ask(mesh, prompt("the last one", no_cache=True))
    await mesh.booked_request(last.decision.request_id)
    return await total(mesh)


# --- with a small model that is slow


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def slow(servers_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[MeshUnderTest]:
    """A mesh of this module's own, in which the small tier takes 50 ms for a word: time to take parts away."""
    folder = tmp_path_factory.mktemp("slow")
    pools = folder / "pools.toml"
    before, small = POOLS.read_text().split('name = "small"', 1)
    pools.write_text(f'{before}name = "small"{small.replace(_triton("echo"), _triton("echo-slow"), 1)}')
    async with MeshUnderTest(with_middle_band(servers_dir / "slow"), pools=pools) as running:
        await join(running, folder)
        yield running


def _triton(model: str) -> str:
    return f'triton_model = "{model}"'


async def running(mesh: MeshUnderTest) -> None:
    """Wait until a model works."""
    async with asyncio.timeout(10.0), mesh.inside("inference") as opened:
        stub = InferenceServiceStub(opened)
        while not any(pool.in_flight for pool in (await stub.ListPools(inference_pb.ListPoolsRequest())).pools):
            await asyncio.sleep(POLL_S)


async def test_a_judge_that_dies_meanwhile_costs_money_and_no_answer(slow: MeshUnderTest) -> None:
    chosen = await case(slow, accepted=True)
    asking = asyncio.create_task(ask(slow, chosen.prompt(no_cache=True)))
    await running(slow)
    await slow.kill("classifier")
    answer = await asking
    await slow.start("classifier")
    assert answer.text == chosen.text
    assert answer.decision.tier > model_pb2.TIER_SMALL
    assert [each.part for each in answer.decision.degradations] == [pb.Degradation.PART_JUDGE]
    for call in answer.final.calls:
        assert await booked(slow, call.request_id) == call.cost.nano_units
    assert len(answer.final.calls) == 2


async def test_a_caller_who_leaves_stops_the_first_model_and_pays_for_what_it_made(slow: MeshUnderTest) -> None:
    await slow.until_answers(prompt("the classifier is back", model="", no_cache=True), ORG)
    chosen = await case(slow, accepted=False)
    await _settled(slow)
    before = await by_tier(slow)
    asking = asyncio.create_task(ask(slow, chosen.prompt(no_cache=True)))
    await running(slow)
    asking.cancel()
    await asyncio.wait({asking})
    await slow.idle("cpu-local")
    await _settled(slow)
    after = await by_tier(slow)
    assert [after.get(tier) for tier in ("MEDIUM", "LARGE")] == [before.get(tier) for tier in ("MEDIUM", "LARGE")]
    assert not (await report.verify(slow.client)).violations
