"""The OutcomeService through gRPC, with a real JetStream behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from farthing.accounting.v1.policy_pb2 import RoutingPolicy
from farthing.gateway.v1 import gateway_service_pb2 as gateway_pb
from farthing.gateway.v1 import outcome_service_pb2 as pb
from farthing.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from farthing.gateway.v1.outcome_service_pb2_grpc import OutcomeServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import ChatMessage, ChatRole, Tier
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import MetricName
from farthing_kit.testing.server import operator_context, tenant_context
from farthing_kit.testing.waiting import until
from services.gateway.tests.peers import World, world

R = ErrorReason
KEY = (("authorization", "Bearer fk_acme"),)
TEXT = "What is the capital of France?"


@pytest.fixture
async def mesh(nats_url: str, tmp_path: Path) -> AsyncIterator[World]:
    async with world(nats_url, tmp_path) as made:
        yield made


async def asked(mesh: World, text: str = TEXT) -> gateway_pb.CompleteResponse:
    prompt = gateway_pb.Prompt(messages=[ChatMessage(role=ChatRole.CHAT_ROLE_USER, content=text)])
    request = gateway_pb.CompleteRequest(prompt=prompt)
    response: gateway_pb.CompleteResponse = await GatewayServiceStub(mesh.channel).Complete(request, metadata=KEY)
    return response


async def report(mesh: World, request_id: str, outcome: int = pb.OUTCOME_ACCEPTABLE, metadata: Any = KEY) -> None:
    request = pb.ReportOutcomeRequest(request_id=request_id, outcome=pb.Outcome.ValueType(outcome))
    await OutcomeServiceStub(mesh.channel).ReportOutcome(request, metadata=metadata)


async def listed(mesh: World, **fields: Any) -> list[pb.ObservedOutcome]:
    async with mesh.gateway.channel(operator_context()) as channel:
        found = OutcomeServiceStub(channel).ListOutcomes(pb.ListOutcomesRequest(**fields))
        return [each.observed async for each in found]


async def test_a_report_is_listed_with_what_was_foretold(mesh: World) -> None:
    answer = await asked(mesh)
    request_id = answer.decision.request_id
    await report(mesh, request_id, pb.OUTCOME_NOT_ACCEPTABLE)
    (observed,) = await listed(mesh)
    assert (observed.request_id, observed.org) == (request_id, "acme")
    assert (observed.tier, observed.model) == (answer.decision.tier, answer.decision.model)
    assert observed.outcome == pb.OUTCOME_NOT_ACCEPTABLE
    assert observed.source == pb.OUTCOME_SOURCE_CALLER
    assert 0.0 < observed.success < 1.0
    assert TEXT.encode() not in observed.SerializeToString()
    later = observed.decide_time
    later.seconds += 1
    assert await listed(mesh, start_time=later) == []


@pytest.mark.parametrize("request_id", ["q_unknown", "q_" + "0" * 32])
async def test_what_is_not_known_is_not_found(mesh: World, request_id: str) -> None:
    with pytest.raises(FarthingError) as error:
        await report(mesh, request_id)
    assert error.value.reason == R.ERROR_REASON_NOT_FOUND


@pytest.mark.parametrize("request_id", ["", "a.b", "*", ">", "x" * 129])
async def test_what_is_no_id_is_invalid(mesh: World, request_id: str) -> None:
    with pytest.raises(FarthingError) as error:
        await report(mesh, request_id)
    assert error.value.reason == R.ERROR_REASON_INVALID_FIELD


@pytest.mark.parametrize("outcome", [0, 7])
async def test_an_outcome_is_one_of_two(mesh: World, outcome: int) -> None:
    with pytest.raises(FarthingError) as error:
        await report(mesh, "q_1", outcome)
    assert [field.field for field in error.value.fields] == ["outcome"]


async def test_only_operators_list(mesh: World) -> None:
    async with mesh.gateway.channel(tenant_context("acme")) as channel:
        with pytest.raises(FarthingError) as error:
            await anext(aiter(OutcomeServiceStub(channel).ListOutcomes(pb.ListOutcomesRequest())))
    assert error.value.reason == R.ERROR_REASON_PERMISSION_DENIED
    with pytest.raises(FarthingError) as error:
        await anext(aiter(OutcomeServiceStub(mesh.channel).ListOutcomes(pb.ListOutcomesRequest(), metadata=KEY)))
    assert error.value.reason == R.ERROR_REASON_CONTEXT_INVALID


async def test_a_start_that_is_no_moment_is_refused(mesh: World) -> None:
    with pytest.raises(FarthingError) as error:
        await listed(mesh, start_time={"seconds": 10**15})
    assert error.value.reason == R.ERROR_REASON_INVALID_FIELD


async def test_a_shadow_runs_through_the_same_peers_and_is_counted(mesh: World) -> None:
    mesh.script.policy.routing.CopyFrom(RoutingPolicy(shadow_share=0.1))
    metrics = mesh.gateway.process.telemetry.metrics

    def shadows() -> float:
        return sum(metrics.value(MetricName.SHADOWS, result=result) for result in ("undecided", "acceptable", "failed"))

    for number in range(200):
        await asked(mesh, f"{TEXT} {number}")
        if any(job.endswith("-shadow") for job in mesh.script.jobs):
            break
    await until(lambda: shadows() == 1)
    (shadow,) = [request for request_id, request in mesh.script.jobs.items() if request_id.endswith("-shadow")]
    assert shadow.model == "large"
    assert shadow.charge.tier == Tier.TIER_LARGE
    assert dict(shadow.charge.tags) == {"farthing-purpose": "shadow"}
    assert shadow.charge.superseded.request_id in mesh.script.jobs
