"""The hand-written OTLP says what protobuf says, and its sender loses no call's time."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue
from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags

from farthing_kit import telemetry
from farthing_kit.local.collector import Collector
from farthing_kit.local.process import free_port
from farthing_kit.telemetry import Attr, LightSpan, SpanName
from farthing_kit.telemetry.names import ATTRIBUTES
from farthing_kit.telemetry.otlp import MAX_QUEUE, OtlpSink, encode_attributes, encode_request, encode_span
from farthing_kit.telemetry.spans import LightProvider
from farthing_kit.testing.waiting import until

scalars = st.text(max_size=90) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)
values = scalars | st.lists(st.text(max_size=5), max_size=3)
attributes = st.dictionaries(st.sampled_from(sorted(ATTRIBUTES)), values, max_size=8)
contexts = st.builds(
    SpanContext, st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.just(False), st.just(TraceFlags(1))
)


class Kept:
    def __init__(self) -> None:
        self.spans: list[LightSpan] = []

    def put(self, span: LightSpan) -> None:
        self.spans.append(span)


def plain(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(item) for item in value.array_value.values]
    return getattr(value, str(kind))


def parsed(span: LightSpan) -> Any:
    raw = encode_request(encode_attributes({"service.name": "farthing-x"}, b"\x0a"), [encode_span(span)])
    (resource,) = ExportTraceServiceRequest.FromString(raw).resource_spans
    assert {item.key: plain(item.value) for item in resource.resource.attributes} == {"service.name": "farthing-x"}
    (scope,) = resource.scope_spans
    assert scope.scope.name == "farthing"
    (found,) = scope.spans
    return found


@given(st.text(max_size=200), contexts, st.none() | contexts, st.sampled_from(SpanKind), attributes, st.lists(contexts))
def test_an_encoded_span_is_the_span(
    name: str,
    context: SpanContext,
    parent: SpanContext | None,
    kind: SpanKind,
    own: dict[str, Any],
    links: list[SpanContext],
) -> None:
    provider = LightProvider({}, Kept(), 1.0)
    span = LightSpan(provider, name, context, parent, kind, own, [Link(c, own) for c in links], 5)
    span.end(2**62)
    found = parsed(span)
    assert (found.name, found.kind) == (name, kind.value + 1)
    assert (int.from_bytes(found.trace_id, "big"), int.from_bytes(found.span_id, "big")) == (
        context.trace_id,
        context.span_id,
    )
    assert int.from_bytes(found.parent_span_id, "big") == (0 if parent is None else parent.span_id)
    assert (found.start_time_unix_nano, found.end_time_unix_nano) == (5, 2**62)
    assert {item.key: plain(item.value) for item in found.attributes} == own
    assert [int.from_bytes(link.span_id, "big") for link in found.links] == [c.span_id for c in links]


def test_true_and_one_stay_two_things() -> None:
    raw = encode_attributes({"a": 1, "b": True, "c": 1.0, "d": False, "e": 0}, b"\x0a")
    (resource,) = ExportTraceServiceRequest.FromString(encode_request(raw, [])).resource_spans
    kinds = [item.value.WhichOneof("value") for item in resource.resource.attributes]
    assert kinds == ["int_value", "bool_value", "double_value", "bool_value", "int_value"]


def test_a_failed_span_says_so_and_what_no_list_names_stays_here() -> None:
    kept = Kept()
    made = telemetry.with_sink("test", kept)
    try:
        with made.span(SpanName.ENCODE, attributes={"gen_ai.prompt": "canary", Attr.COUNT: 3}):
            raise ValueError("canary")
    except ValueError:
        pass
    raw = encode_span(kept.spans[0])
    assert b"canary" not in raw
    found = parsed(kept.spans[0])
    assert found.status.code == 2
    assert {item.key: plain(item.value) for item in found.attributes} == {Attr.COUNT: 3, Attr.ERROR_TYPE: "ValueError"}


def test_the_ratio_decides_for_new_traces_only() -> None:
    kept = Kept()
    never, always = telemetry.with_sink("test", kept, ratio=0.0), telemetry.with_sink("test", kept)
    with never.span(SpanName.CHOOSE) as outer, always.span(SpanName.ENCODE) as inner:
        assert not outer.is_recording()
        assert inner.get_span_context().trace_id == outer.get_span_context().trace_id
    with always.span(SpanName.CHOOSE), never.span(SpanName.ENCODE):
        pass
    assert [span.name for span in kept.spans] == [SpanName.ENCODE, SpanName.CHOOSE]


async def test_the_last_spans_are_sent_when_the_process_ends(collector: Collector) -> None:
    made = telemetry.with_otlp("last", collector.endpoint)
    sender = asyncio.create_task(made.run())
    await asyncio.sleep(0)
    for _ in range(1_000):
        with made.span(SpanName.CHOOSE):
            pass
    sender.cancel()
    await asyncio.wait({sender})
    source = {"stringValue": "farthing-last"}
    await until(lambda: sum(s["resource"].get("service.name") == source for s in collector.spans()) == 1_000)


async def test_a_receiver_that_is_away_costs_spans_and_nothing_else(tmp_path: Path) -> None:
    port = free_port()
    sink = OtlpSink(f"http://127.0.0.1:{port}", {"service.name": "x"})
    made = telemetry.with_sink("test", sink)
    for _ in range(MAX_QUEUE + 10):
        with made.span(SpanName.CHOOSE):
            pass
    assert sink.dropped == 10
    sender = asyncio.create_task(sink.run())
    await asyncio.sleep(0)
    sender.cancel()
    await asyncio.wait({sender}, timeout=10)
    assert sink.dropped > 10
