"""Routing on the whole mesh: the real classifier and price list, policies and budgets from the real accounting."""

import asyncio
from pathlib import Path

import pytest
import pytest_asyncio

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_cli import tenants
from farthing_cli.generation import Answer
from farthing_kit.errors import FarthingError
from tests.support.mesh import POLL_S, MeshUnderTest, prompt

ORG = "compass"
TEXT = "What is the capital of France, and what is the sum of 17 and 25?"
MIN_FLOOR = 0.05
POLICY = f"""
[[tenant]]
org = "{ORG}"
[tenant.policy]
default_tier = "medium"
max_tier = "large"
max_output_tokens = 64
cache = false
session_seconds = 600
min_quality_floor = {MIN_FLOOR}
"""
BUDGET = """
[[tenant.budget]]
scope = "org"
window = "day"
limit_usd = "1.00"
[[tenant.key]]
team = "routed"
"""


async def apply(mesh: MeshUnderTest, folder: Path, *rules: str) -> None:
    """Give the tenant a policy with these rules."""
    file = folder / "compass.toml"
    file.write_text(POLICY + "\n".join(rules) + BUDGET)
    mesh.folder.write_keys({**mesh.folder.keys(), **await tenants.apply(mesh.client, file)})


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def routed(mesh: MeshUnderTest, tmp_path_factory: pytest.TempPathFactory) -> MeshUnderTest:
    await apply(mesh, tmp_path_factory.mktemp("routing"), "quality_floor = 0.7")
    return mesh


async def ask(mesh: MeshUnderTest, **changes: object) -> Answer:
    asked = prompt(TEXT, model="", max_tokens=16)
    asked.MergeFrom(pb.Prompt(**changes))  # type: ignore[arg-type]
    return await (await mesh.gateway(ORG)).ask(asked)


async def test_the_sum_can_be_done_again_from_the_decision(routed: MeshUnderTest) -> None:
    decision = (await ask(routed)).decision
    options = {option.tier: option for option in decision.routing.options}
    assert list(options) == [model_pb2.TIER_SMALL, model_pb2.TIER_MEDIUM, model_pb2.TIER_LARGE]
    costs = [option.expected_cost.nano_units for option in options.values()]
    assert costs == sorted(costs)
    assert costs[0] > 0
    enough = [each.tier for each in options.values() if each.success >= decision.routing.quality_floor]
    if decision.routing.reason == pb.ROUTING_REASON_QUALITY_FLOOR:
        assert decision.tier == enough[0]
    assert decision.analysis.model_version
    assert decision.explanation.endswith(".")


async def test_a_callers_floor_decides_and_a_session_keeps_what_it_brought(routed: MeshUnderTest) -> None:
    options = (await ask(routed)).decision.routing.options
    above_medium = (options[1].success + options[2].success) / 2
    best = await ask(routed, quality_floor=above_medium, session_id="s1")
    assert best.decision.tier == model_pb2.TIER_LARGE
    low = await ask(routed, quality_floor=MIN_FLOOR, session_id="s1")
    assert (low.decision.tier, low.decision.routing.reason) == (model_pb2.TIER_LARGE, pb.ROUTING_REASON_SESSION)
    elsewhere = await ask(routed, quality_floor=MIN_FLOOR, session_id="s2")
    assert elsewhere.decision.tier == model_pb2.TIER_SMALL


async def test_a_floor_below_the_policys_is_refused(routed: MeshUnderTest) -> None:
    with pytest.raises(FarthingError) as refused:
        await ask(routed, quality_floor=0.01)
    assert refused.value.reason_name == "ERROR_REASON_INVALID_FIELD"
    assert [each.field for each in refused.value.fields] == ["prompt.quality_floor"]


async def test_accounting_tells_how_fast_the_budget_goes(routed: MeshUnderTest) -> None:
    await ask(routed)
    assert 0 < (await ask(routed)).decision.routing.budget_pace < 1


async def test_a_new_policy_is_followed_at_once(routed: MeshUnderTest, tmp_path: Path) -> None:
    await apply(routed, tmp_path, 'fixed_tier = "large"')
    async with asyncio.timeout(10):
        while (await ask(routed)).decision.routing.reason != pb.ROUTING_REASON_FIXED_TIER:
            await asyncio.sleep(POLL_S)
    assert (await ask(routed)).decision.tier == model_pb2.TIER_LARGE
