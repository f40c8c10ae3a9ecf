"""One trace for each request, complete, and without a word of what was asked or answered."""

import asyncio
import json
import secrets

import pytest

from farthing_cli import trace
from farthing_cli.generation import Answer
from farthing_kit.errors import FarthingError
from tests.support.mesh import MeshUnderTest, prompt

WRITTEN_WITHIN_S = 30.0
POLL_S = 0.2

GATEWAY = "farthing.gateway.v1.GatewayService/Generate"
# (service of the parent, service of the child): what a request that no cache answers must cross.
EDGES = {
    ("gateway", "accounting"),
    ("gateway", "cache"),
    ("gateway", "classifier"),
    ("gateway", "scheduler"),
    ("scheduler", "inference"),
}
# Triton 2.51 starts a trace of its own for about one request in thirty (0 to 7 of 120), though each brings its parent.
# So this edge is asked of most requests, and every other of all.
INTO_TRITON = ("inference", "triton")
REQUESTS, THROUGH_TRITON = 10, 7


async def spans_of(mesh: MeshUnderTest, answer: Answer) -> list[trace.Span]:
    """The spans of a request, once every service has sent its own."""
    async with asyncio.timeout(WRITTEN_WITHIN_S):
        while True:
            spans = trace.spans_of(mesh.folder.traces_file, answer.decision.request_id)
            if edges(spans) >= EDGES and not orphans(spans):
                return spans
            await asyncio.sleep(POLL_S)


def edges(spans: list[trace.Span]) -> set[tuple[str, str]]:
    service = {span.span_id: part(span) for span in spans}
    return {(service[span.parent_id], part(span)) for span in spans if span.parent_id in service}


def part(span: trace.Span) -> str:
    return span.service.removeprefix("farthing-")


def orphans(spans: list[trace.Span]) -> list[trace.Span]:
    known = {span.span_id for span in spans}
    return [span for span in spans if span.parent_id and span.parent_id not in known]


async def test_one_trace_runs_from_the_gateway_to_triton_with_every_edge_and_no_orphan(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway()
    answers = [await gateway.ask(prompt(f"trace number {number}", model="")) for number in range(REQUESTS)]
    for answer in answers:
        spans = await spans_of(mesh, answer)
        roots = [span for span in spans if not span.parent_id]
        assert [(part(root), root.name) for root in roots] == [("gateway", GATEWAY)]
        assert len({span.trace_id for span in spans}) == 1
    async with asyncio.timeout(WRITTEN_WITHIN_S):
        while through_triton(mesh, answers) < THROUGH_TRITON:
            await asyncio.sleep(POLL_S)


def through_triton(mesh: MeshUnderTest, answers: list[Answer]) -> int:
    """How many of these traces reach into Triton."""
    traces = (trace.spans_of(mesh.folder.traces_file, answer.decision.request_id) for answer in answers)
    return sum(INTO_TRITON in edges(spans) for spans in traces)


async def test_a_hit_asks_no_other_service_and_is_booked_in_its_trace(mesh: MeshUnderTest) -> None:
    gateway = await mesh.gateway()
    await gateway.ask(prompt("trace a hit"))
    hit = await gateway.ask(prompt("trace a hit"))
    async with asyncio.timeout(WRITTEN_WITHIN_S):
        while not (spans := trace.spans_of(mesh.folder.traces_file, hit.decision.request_id)):
            await asyncio.sleep(POLL_S)
    assert {part(span) for span in spans} <= {"gateway", "accounting"}


async def test_spans_carry_the_semantic_conventions_of_genai(mesh: MeshUnderTest) -> None:
    answer = await (await mesh.gateway()).ask(prompt("which attributes", model=""))
    spans = await spans_of(mesh, answer)
    text = "".join(line for line in mesh.folder.traces_file.read_text().splitlines() if spans[0].trace_id in line)
    for name in (
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.operation.name",
    ):
        assert f'"{name}"' in text


async def test_no_word_of_a_prompt_or_an_answer_or_a_key_is_in_any_span_log_or_store(mesh: MeshUnderTest) -> None:
    canary = f"canary{secrets.token_hex(12)}"
    gateway = await mesh.gateway()
    answered = await gateway.ask(prompt(f"please repeat {canary}", model=""))
    for asked in (prompt(canary, model="gpt-9"), prompt(canary, max_tokens=-1), prompt(canary * 60_000)):
        with pytest.raises(FarthingError) as refused:
            await gateway.ask(asked)
        assert canary not in str(refused.value) + json.dumps(refused.value.metadata)
    assert canary in answered.text
    await spans_of(mesh, answered)
    await mesh.booked_request(answered.decision.request_id)
    secret = mesh.client.api_key("lantern").rpartition("_")[2]
    for file in (mesh.folder.traces_file, *mesh.folder.logs.iterdir()):
        text = file.read_bytes()
        assert canary.encode() not in text, file.name
        assert secret.encode() not in text, file.name
