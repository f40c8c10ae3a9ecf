"""One trace from the caller's call to the model, across the queue, and no text of anybody in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from opentelemetry.sdk.trace import ReadableSpan

from farthing_kit.local.nats import Nats
from farthing_kit.testing.server import tenant_context
from services.scheduler.tests.mesh import Mesh, mesh, until

SERVER = "farthing.scheduler.v1.SchedulerService/Generate"
INFERENCE = "farthing.inference.v1.InferenceService/Generate"
CANARY = "canary-5f0c"


@pytest.mark.parametrize("apart", [False, True])
async def test_a_request_is_one_trace(nats_url: str, nats_server: Nats, tmp_path: Path, apart: bool) -> None:
    async with mesh(nats_server, tmp_path, apart=apart) as made:
        context = tenant_context()
        await made.ask(f"{CANARY} two", context=context)
        await until(lambda: len(_spans(made)) == 5)
        spans = _spans(made)

    names = [span.name for span in _chain(spans, leaf_of(spans))]
    assert names == [SERVER, "job.publish", "job.run", INFERENCE, INFERENCE]
    assert len({span.context.trace_id for span in spans}) == 1
    run = next(span for span in spans if span.name == "job.run")
    assert run.attributes is not None
    assert run.attributes["messaging.destination.name"] == "jobs.interactive.small"
    assert run.attributes["farthing.request.id"] == context.request_id
    assert run.attributes["farthing.attempt"] == 1
    assert run.attributes["farthing.finish_reason"] == "stop"
    assert not any(CANARY in span.to_json() for span in spans)


def _spans(made: Mesh) -> list[ReadableSpan]:
    wanted = (SERVER, INFERENCE, "job.publish", "job.run")
    return [span for process in made.spans for span in process.all() if span.name in wanted]


def leaf_of(spans: list[ReadableSpan]) -> ReadableSpan:
    """The span that is nobody's parent."""
    parents = {span.parent.span_id for span in spans if span.parent is not None}
    [leaf] = [span for span in spans if span.context.span_id not in parents]
    return leaf


def _chain(spans: list[ReadableSpan], leaf: ReadableSpan) -> list[ReadableSpan]:
    """From the root to a leaf."""
    by_id = {span.context.span_id: span for span in spans}
    chain = [leaf]
    while chain[0].parent is not None and chain[0].parent.span_id in by_id:
        chain.insert(0, by_id[chain[0].parent.span_id])
    return chain
