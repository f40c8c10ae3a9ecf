"""Callers say what became of answers, operators list it, and the classifier's probabilities are fitted on it."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from farthing.classifier.v1 import classifier_service_pb2 as classifier_pb
from farthing.classifier.v1 import classifier_service_pb2_grpc as classifier_pb_grpc
from farthing.gateway.v1 import gateway_service_pb2 as gateway_pb
from farthing.gateway.v1 import outcome_service_pb2 as pb
from farthing.gateway.v1 import outcome_service_pb2_grpc as pb_grpc
from farthing.type.v1 import model_pb2
from farthing_cli import report as ledger_report
from farthing_cli import tenants
from farthing_cli.generation import Answer
from farthing_cli.mesh import read_secret
from farthing_gateway.domain.outcomes import gets_shadow
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner
from farthing_kit.errors import FarthingError
from farthing_kit.testing.server import operator_context, tenant_context
from tests.support.mesh import MeshUnderTest, prompt

GOOD, BAD = pb.OUTCOME_ACCEPTABLE, pb.OUTCOME_NOT_ACCEPTABLE
ENOUGH = 60
POLL_S = 0.05


def routed(text: str) -> gateway_pb.Prompt:
    """A prompt whose tier the mesh chooses."""
    return prompt(text, model="", no_cache=True)


async def asked(mesh: MeshUnderTest, text: str, org: str = "lantern") -> Answer:
    answer = await (await mesh.gateway(org)).ask(routed(text))
    assert answer.decision.HasField("analysis"), answer.decision.explanation
    return answer


async def report(mesh: MeshUnderTest, request_id: str, *, good: bool = True, org: str = "lantern") -> None:
    await (await mesh.gateway(org)).report_outcome(request_id, acceptable=good)


async def refusal(mesh: MeshUnderTest, request_id: str, org: str = "lantern") -> FarthingError:
    with pytest.raises(FarthingError) as error:
        await report(mesh, request_id, org=org)
    return error.value


async def listed(mesh: MeshUnderTest) -> dict[str, pb.ObservedOutcome]:
    async with mesh.inside("gateway") as opened:
        found = pb_grpc.OutcomeServiceStub(opened).ListOutcomes(pb.ListOutcomesRequest())
        return {each.observed.request_id: each.observed async for each in found}


async def farthing(mesh: MeshUnderTest, *words: str) -> subprocess.CompletedProcess[str]:
    """The command, told where this mesh is."""
    own = {
        "FARTHING_GATEWAY": mesh.address["gateway"],
        "FARTHING_CLASSIFIER": mesh.address["classifier"],
        "FARTHING_MESH_SECRET_FILE": str(mesh.folder.mesh_secret_file),
        "FARTHING_API_KEY": mesh.client.api_key("lantern"),
        "COLUMNS": "200",
    }
    command = [sys.executable, "-m", "farthing_cli", "--state", str(mesh.folder.path), *words]
    return await asyncio.to_thread(_run, command, {**os.environ, **own})


def _run(command: list[str], env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)


async def test_a_report_is_kept_beside_what_was_foretold(mesh: MeshUnderTest) -> None:
    answer = await asked(mesh, "Which planet is the largest one?")
    await report(mesh, answer.decision.request_id, good=False)
    observed = (await listed(mesh))[answer.decision.request_id]
    assert (observed.org, observed.outcome, observed.source) == ("lantern", BAD, pb.OUTCOME_SOURCE_CALLER)
    assert (observed.tier, observed.model) == (answer.decision.tier, answer.decision.model)
    assert observed.model_version == answer.decision.analysis.model_version
    assert observed.calibration_version == answer.decision.analysis.calibration_version
    assert 0.0 < observed.success < 1.0
    options = {option.tier: option.success for option in answer.decision.routing.options}
    assert observed.success == pytest.approx(options[observed.tier])


async def test_a_second_report_replaces_the_first(mesh: MeshUnderTest) -> None:
    request_id = (await asked(mesh, "Name a river in Africa.")).decision.request_id
    for good in (True, False, True):
        await report(mesh, request_id, good=good)
    assert (await listed(mesh))[request_id].outcome == GOOD


async def test_the_request_of_another_organisation_is_as_unknown_as_any(mesh: MeshUnderTest) -> None:
    request_id = (await asked(mesh, "Name a mountain in Asia.")).decision.request_id
    told = [await refusal(mesh, each, "foundry") for each in (request_id, "q_00000000000000000000000000000000")]
    assert {each.reason_name for each in told} == {"ERROR_REASON_NOT_FOUND"}
    assert told[0].message == told[1].message
    assert request_id not in await listed(mesh)


async def test_nothing_is_foretold_where_the_caller_named_the_model(mesh: MeshUnderTest) -> None:
    answer = await (await mesh.gateway()).ask(prompt("a named model", no_cache=True))
    assert (await refusal(mesh, answer.decision.request_id)).reason_name == "ERROR_REASON_NOT_FOUND"


@pytest.mark.parametrize("request_id", ["", "*", ">", "q_1.>", "routing.decided.q_1", "q_1\r\nPING", "q" * 129, "ä"])
async def test_what_is_no_request_id_is_refused(mesh: MeshUnderTest, request_id: str) -> None:
    error = await refusal(mesh, request_id)
    assert error.reason_name == "ERROR_REASON_INVALID_FIELD"
    assert [field.field for field in error.fields] == ["request_id"]


async def test_an_outcome_must_be_said_by_somebody_with_a_key(mesh: MeshUnderTest) -> None:
    async with channel(mesh.address["gateway"]) as opened:
        stub = pb_grpc.OutcomeServiceStub(opened)
        with pytest.raises(FarthingError) as error:
            await stub.ReportOutcome(pb.ReportOutcomeRequest(request_id="q_1", outcome=GOOD))
        assert error.value.reason_name == "ERROR_REASON_KEY_INVALID"
        key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
        with pytest.raises(FarthingError) as error:
            await stub.ReportOutcome(pb.ReportOutcomeRequest(request_id="q_1"), metadata=key)
        assert error.value.reason_name == "ERROR_REASON_INVALID_FIELD"


async def test_only_operators_list_outcomes(mesh: MeshUnderTest) -> None:
    signer = ContextSigner(read_secret(mesh.folder.mesh_secret_file))
    key = (("authorization", f"Bearer {mesh.client.api_key('lantern')}"),)
    async with channel(mesh.address["gateway"], signer=signer, identity=tenant_context("lantern")) as opened:
        assert await _listing_fails(opened) == "ERROR_REASON_PERMISSION_DENIED"
    async with channel(mesh.address["gateway"]) as opened:
        assert await _listing_fails(opened, metadata=key) == "ERROR_REASON_CONTEXT_INVALID"
    forged = ContextSigner(b"x" * 32)
    async with channel(mesh.address["gateway"], signer=forged, identity=operator_context()) as opened:
        assert await _listing_fails(opened) == "ERROR_REASON_CONTEXT_INVALID"


async def _listing_fails(opened: object, **options: object) -> str:
    stub = pb_grpc.OutcomeServiceStub(opened)  # type: ignore[arg-type]
    with pytest.raises(FarthingError) as error:
        async for _ in stub.ListOutcomes(pb.ListOutcomesRequest(), **options):  # type: ignore[arg-type]
            pass
    return error.value.reason_name


async def test_what_was_foretold_outlives_the_gateway(mesh: MeshUnderTest) -> None:
    request_id = (await asked(mesh, "Name a lake in Europe.")).decision.request_id
    await mesh.stop("gateway")
    await mesh.start("gateway")
    await mesh.until_answers(prompt("back again"))
    await report(mesh, request_id)
    assert (await listed(mesh))[request_id].outcome == GOOD


async def test_the_command_says_and_lists_outcomes(mesh: MeshUnderTest) -> None:
    request_id = (await asked(mesh, "Name an island in the Pacific.")).decision.request_id
    said = await farthing(mesh, "outcome", request_id, "good")
    assert said.returncode == 0, said.stderr
    shown = await farthing(mesh, "outcomes", "--since", "1h")
    assert shown.returncode == 0, shown.stderr
    rows = [json.loads(line) for line in shown.stdout.splitlines()]
    assert next(row for row in rows if row["request_id"] == request_id)["outcome"] == "acceptable"
    unknown = await farthing(mesh, "outcome", "q_nowhere", "bad")
    assert unknown.returncode == 1
    assert "NOT_FOUND" in unknown.stderr
    assert len(unknown.stderr.strip().splitlines()) == 1


@pytest_asyncio.fixture(loop_scope="session")
async def calibration_file(mesh: MeshUnderTest) -> AsyncIterator[Path]:
    """Where a recalibration is written and the next classifier looks; not there afterwards."""
    yield mesh.folder.calibration_file
    mesh.folder.calibration_file.unlink(missing_ok=True)


async def test_the_classifier_learns_from_outcomes(mesh: MeshUnderTest, calibration_file: Path) -> None:
    answers = [await asked(mesh, f"What is the sum of {number} and {number * 7}?") for number in range(ENOUGH)]
    for number, answer in enumerate(answers):
        await report(mesh, answer.decision.request_id, good=number % 6 == 0)
    tier = max((answer.decision.tier for answer in answers), key=[each.decision.tier for each in answers].count)
    made = await farthing(mesh, "models", "recalibrate", "--min-outcomes", "20")
    assert made.returncode == 0, made.stdout + made.stderr
    assert "restart the mesh to use it" in made.stdout
    written = json.loads(calibration_file.read_text())  # noqa: ASYNC240 - a small file
    before = await _outlooks(mesh.address["classifier"], mesh)
    async with mesh.another("classifier") as address:
        after = await _outlooks(address, mesh)
    assert before.calibration_version == written["recalibration"]["from"]
    assert after.calibration_version == written["version"]
    assert _success(after, tier) < _success(before, tier)


async def test_a_shadow_is_booked_compared_and_no_request_of_the_caller(mesh: MeshUnderTest, tmp_path: Path) -> None:
    keys = await tenants.apply(mesh.client, _tenant_with_shadows(tmp_path))
    mesh.folder.write_keys({**mesh.folder.keys(), **keys})
    gateway = await mesh.gateway("shade")
    request_id, requests = "", 0
    while not request_id:
        answer = await gateway.ask(prompt(f"Name {requests} rivers.", model=""))
        requests += 1
        request_id = answer.decision.request_id if gets_shadow(answer.decision.request_id, 0.1) else ""
        assert answer.decision.tier < model_pb2.TIER_LARGE
    await mesh.booked_request(f"{request_id}-shadow")
    async with asyncio.timeout(30):
        while request_id not in (found := await listed(mesh)):
            await asyncio.sleep(POLL_S)
    assert (found[request_id].outcome, found[request_id].source) == (GOOD, pb.OUTCOME_SOURCE_SHADOW)
    response = await ledger_report.fetch(mesh.client, "tenant", None)
    assert next(row.requests for row in response.rows if row.group == "shade") == requests
    tagged = await ledger_report.fetch(mesh.client, "tenant", "farthing-purpose")
    shadows = next(row for row in tagged.rows if row.group == "shadow")
    assert shadows.cost.nano_units > 0
    assert not (await ledger_report.verify(mesh.client)).violations


def _tenant_with_shadows(folder: Path) -> Path:
    file = folder / "shade.toml"
    file.write_text(
        '[[tenant]]\norg = "shade"\n[tenant.policy]\nquality_floor = 0.05\nmin_quality_floor = 0.01\n'
        'shadow_share = 0.1\ncache = true\n[[tenant.key]]\nteam = "t"\n'
    )
    return file


async def test_too_few_outcomes_change_nothing_and_say_so(mesh: MeshUnderTest, calibration_file: Path) -> None:
    made = await farthing(mesh, "models", "recalibrate", "--min-outcomes", "100000")
    assert made.returncode == 1
    assert "nothing written" in made.stdout
    assert not calibration_file.exists()  # noqa: ASYNC240


async def test_the_command_shows_what_judges_prompts(mesh: MeshUnderTest) -> None:
    shown = await farthing(mesh, "models")
    assert shown.returncode == 0, shown.stderr
    assert "large" in shown.stdout
    assert "classifier: " in shown.stdout
    assert "calibration " in shown.stdout


async def _outlooks(address: str, mesh: MeshUnderTest) -> classifier_pb.AnalyzeResponse:
    signer = ContextSigner(read_secret(mesh.folder.mesh_secret_file))
    text = model_pb2.ChatMessage(role=model_pb2.CHAT_ROLE_USER, content="What is the sum of 5 and 35?")
    async with channel(address, signer=signer, identity=tenant_context("lantern")) as opened:
        stub = classifier_pb_grpc.ClassifierServiceStub(opened)
        found: classifier_pb.AnalyzeResponse = await stub.Analyze(classifier_pb.AnalyzeRequest(messages=[text]))
        return found


def _success(found: classifier_pb.AnalyzeResponse, tier: model_pb2.Tier.ValueType) -> float:
    return next(each.success for each in found.tiers if each.tier == tier)
