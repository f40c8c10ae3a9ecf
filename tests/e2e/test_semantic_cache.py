"""Answers to requests that mean the same, and one model call for all who ask the same at once, on the whole mesh."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from farthing.cache.v1 import cache_service_pb2 as cache_pb
from farthing.cache.v1 import cache_service_pb2_grpc as cache_rpc
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_cli import report, tenants
from farthing_cli.generation import Answer, Gateway
from farthing_cli.mesh import read_secret
from farthing_kit.client import channel
from farthing_kit.context import ContextSigner
from farthing_kit.testing.server import tenant_context
from tests.support.evidence import trust
from tests.support.mesh import MeshUnderTest, prompt

ASKED, SAME, TRAP = "What is the capital of France?", "what's the capital of France", "What is the capital of Peru?"
SEMANTIC, NONE = model_pb2.CACHE_LEVEL_SEMANTIC, model_pb2.CACHE_LEVEL_NONE
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
cache_scope = "{scope}"
[[tenant.key]]
team = "{team}"
user = "{user}"
"""
AT_ONCE = 50
BUDGETS = (
    "CACHE_REDIS_TIMEOUT_MS",
    "CACHE_VERIFIER_TIMEOUT_MS",
    "GATEWAY_LOOK_UP_TIMEOUT_MS",
    "GATEWAY_SEARCH_TIMEOUT_MS",
    "GATEWAY_ANALYZE_TIMEOUT_MS",
    "GATEWAY_STORE_TIMEOUT_MS",
)
LONG = " ".join(f"word{number}" for number in range(60))
TRIES = 40


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mesh(servers_dir: Path) -> AsyncIterator[MeshUnderTest]:
    """A mesh of this module's own: its gateway is killed. Generous budgets: the machine that runs the tests may be
    busy, and they are not what is tested."""
    with pytest.MonkeyPatch.context() as patch:
        for budget in BUDGETS:
            patch.setenv(f"FARTHING_{budget}", "5000")
        async with MeshUnderTest(servers_dir / "semantic") as running:
            yield running


async def caller(
    mesh: MeshUnderTest, org: str, scope: str = "org", team: str = "t", user: str = "u", address: str = ""
) -> Gateway:
    """The gateway, in the name of a key of its own."""
    file = mesh.folder.path / f"{org}-{team}-{user}.toml"
    file.write_text(TENANT.format(org=org, scope=scope, team=team, user=user))
    keys = await tenants.apply(mesh.client, file)
    if not address:
        address = mesh.address["gateway"]
    opened = await mesh._stack.enter_async_context(channel(address))
    return Gateway(opened, keys[org], 60.0)


def probe(text: str, **control: object) -> pb.Prompt:
    """A question whose answer is not kept, so that it can be asked again."""
    asked = prompt(text)
    asked.cache_control.MergeFrom(pb.CacheControl(no_store=True, **control))  # type: ignore[arg-type]
    return asked


async def served(gateway: Gateway, text: str) -> Answer | None:
    """A semantic hit. A few percent of would-be hits are explored, and what was stored a moment ago may not be there
    yet: so it is asked again."""
    for _ in range(TRIES):
        answer = await gateway.ask(probe(text))
        if answer.decision.cache_level == SEMANTIC:
            return answer
    return None


async def test_nothing_but_the_same_words_is_served_before_there_is_evidence(mesh: MeshUnderTest) -> None:
    gateway = await caller(mesh, "thin")
    await gateway.ask(prompt(ASKED))
    answer = await gateway.ask(probe(SAME))
    assert (answer.text, answer.decision.cache_level) == (SAME, NONE)


async def test_fresh_answers_are_compared_with_what_could_have_been_served(mesh: MeshUnderTest) -> None:
    """While evidence is thin, each near miss is one more piece of it. The model that echoes says the same to both."""
    gateway = await caller(mesh, "evident")
    await gateway.ask(prompt("Describe a harbour at dawn."))
    signer = ContextSigner(read_secret(mesh.folder.mesh_secret_file))
    inside = channel(mesh.address["cache"], signer=signer, identity=tenant_context("evident"))
    async with inside as opened, asyncio.timeout(30.0):
        stub = cache_rpc.CacheServiceStub(opened)
        while not sum(each.labels for each in (await stub.GetStats(cache_pb.GetStatsRequest())).categories):
            await gateway.ask(probe("Describe a harbour at dawn. "))


async def test_a_paraphrase_is_served_with_evidence_and_a_trap_is_not(mesh: MeshUnderTest) -> None:
    await trust(mesh, "trusted")
    gateway = await caller(mesh, "trusted")
    await gateway.ask(prompt(ASKED))
    answer = await served(gateway, SAME)
    assert answer is not None
    assert answer.text == ASKED  # what the model said to the first question
    assert 0.7 < answer.decision.similarity < 1.0
    assert "means the same" in answer.decision.explanation
    assert answer.final.cost.nano_units == 0
    assert answer.final.saved.nano_units > 0
    assert answer.decision.model == "echo"
    assert (await gateway.ask(probe(TRAP))).text == TRAP
    strict = await gateway.ask(probe(SAME, min_score=1.0))
    assert strict.decision.cache_level == NONE
    await mesh.booked_request(answer.decision.request_id)
    rows = {row.group: row for row in (await report.fetch(mesh.client, "cache", None)).rows}
    assert rows["SEMANTIC"].cache_hits >= 1
    assert rows["SEMANTIC"].cost.nano_units == 0


async def test_the_caller_of_a_hit_can_say_that_it_was_wrong(mesh: MeshUnderTest) -> None:
    await trust(mesh, "telling")
    gateway = await caller(mesh, "telling")
    await gateway.ask(prompt(ASKED))
    answer = await served(gateway, SAME)
    assert answer is not None
    await gateway.report_outcome(answer.decision.request_id, acceptable=False)


async def test_no_other_organisation_team_or_user_is_served(mesh: MeshUnderTest) -> None:
    for org in ("atlas", "borealis", "teams", "users"):
        await trust(mesh, org)
    atlas, borealis = await caller(mesh, "atlas"), await caller(mesh, "borealis")
    red, blue = [await caller(mesh, "teams", "team", team) for team in ("red", "blue")]
    ann, bob = [await caller(mesh, "users", "user", user=user) for user in ("ann", "bob")]
    for own, other in ((atlas, borealis), (red, blue), (ann, bob)):
        await own.ask(prompt(ASKED))
        assert await served(own, SAME) is not None
        assert (await own.ask(probe(ASKED))).decision.cache_level != NONE
        for text in (ASKED, SAME):
            assert (await other.ask(probe(text))).decision.cache_level == NONE


async def test_a_changed_system_prompt_or_history_is_another_question(mesh: MeshUnderTest) -> None:
    await trust(mesh, "shaped")
    gateway = await caller(mesh, "shaped")
    await gateway.ask(prompt(ASKED))
    assert await served(gateway, SAME) is not None
    for role in (model_pb2.CHAT_ROLE_SYSTEM, model_pb2.CHAT_ROLE_USER):
        asked = probe(SAME)
        asked.messages.insert(0, model_pb2.ChatMessage(role=role, content="Answer in Latin."))
        assert (await gateway.ask(asked)).decision.cache_level == NONE


def slow(text: str = LONG) -> pb.Prompt:
    return prompt(text, model="echo-slow", max_tokens=256)


def calls(answers: list[Answer]) -> int:
    """Model calls that were made."""
    return sum(bool(answer.final.calls) for answer in answers)


async def test_all_who_ask_the_same_at_once_share_one_model_call(mesh: MeshUnderTest) -> None:
    gateway = await caller(mesh, "crowd")
    async with mesh.another("gateway") as address:
        second = await caller(mesh, "crowd", user="v", address=address)
        answers = await asyncio.gather(*((gateway, second)[n % 2].ask(slow()) for n in range(AT_ONCE)))
    assert {answer.text for answer in answers} == {LONG}
    told = [str(answer.decision.degradations) + answer.decision.explanation for answer in answers if answer.final.calls]
    assert len(told) == 1, told
    for answer in answers:
        await mesh.booked_request(answer.decision.request_id)
    assert len({answer.decision.request_id for answer in answers}) == AT_ONCE


async def test_a_killed_leader_is_replaced_once_and_all_get_the_same(mesh: MeshUnderTest) -> None:
    leader = await caller(mesh, "orphans")
    text = LONG + " and then the leader dies"
    async with mesh.another("gateway") as address:
        others = await caller(mesh, "orphans", user="v", address=address)
        speaking, listening = asyncio.Event(), asyncio.Event()
        led = asyncio.create_task(leader.ask(slow(text), lambda _: speaking.set()))
        await speaking.wait()
        followers = [
            asyncio.create_task(others.ask(slow(text), lambda _: listening.set())) for _ in range(AT_ONCE // 5)
        ]
        await listening.wait()
        await mesh.kill("gateway")
        answers = await asyncio.gather(*followers)
        await asyncio.wait({led})
        await mesh.start("gateway")
    await mesh.until_answers(prompt("the gateway is back", no_cache=True))
    assert {answer.text for answer in answers} == {text}
    assert calls(answers) <= 1  # beside the leader's own


async def test_a_cache_that_dies_meanwhile_costs_nobody_the_answer(mesh: MeshUnderTest) -> None:
    gateway = await caller(mesh, "bereft")
    text = LONG + " and then the cache dies"
    begun = asyncio.Event()
    asking = [asyncio.create_task(gateway.ask(slow(text), lambda _: begun.set())) for _ in range(4)]
    await asyncio.wait({*asking, asyncio.create_task(begun.wait())}, return_when=asyncio.FIRST_COMPLETED)
    await mesh.kill("cache")
    answers = await asyncio.gather(*asking)
    await mesh.start("cache")
    assert {answer.text for answer in answers} == {text}
    await mesh.until_answers(prompt("the cache is back"))
