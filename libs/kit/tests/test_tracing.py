"""One trace from hop to hop, under allowed names only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from farthing_kit.errors import InvalidArgument
from farthing_kit.telemetry import Attr, SpanName, Telemetry, tracing
from farthing_kit.testing.echo import NAME, EchoStub, echo_service
from farthing_kit.testing.server import Spans, serving, tenant_context

CANARY = "canary-7f3a"


def text(value: str) -> StringValue:
    return StringValue(value=value)


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def parent_of(span: ReadableSpan, spans: Spans) -> ReadableSpan | None:
    if span.parent is None:
        return None
    return next(s for s in spans.all() if s.context and span.parent and s.context.span_id == span.parent.span_id)


async def test_a_request_over_two_hops_is_one_trace_without_orphans() -> None:
    spans = Spans()
    async with serving(echo_service(), telemetry=spans.telemetry("back")) as back:
        behind = EchoStub(back.channel())

        async def outer(request: StringValue, context: Any) -> AsyncIterator[StringValue]:
            async for message in behind.Repeat(request):
                yield message

        async with serving(echo_service(None, outer), telemetry=spans.telemetry("front")) as front:
            caller = tenant_context()
            assert len([m async for m in EchoStub(front.channel(caller)).Repeat(text("abc"))]) == 3
    path = []
    span: ReadableSpan | None = next(
        s for s in spans.all() if s.resource.attributes["service.name"] == "farthing-back" and s.kind is SpanKind.SERVER
    )
    while span is not None:
        path.append((span.kind, span.resource.attributes["service.name"]))
        assert span.name == f"{NAME}/Repeat"
        span = parent_of(span, spans)
    # The client's span inside the handler belongs to the telemetry of the channel that made it.
    assert [kind for kind, _ in path] == [SpanKind.SERVER, SpanKind.CLIENT, SpanKind.SERVER, SpanKind.CLIENT]
    assert len({s.context.trace_id for s in spans.all() if s.context}) == 1
    server = next(s for s in spans.all() if s.kind is SpanKind.SERVER)
    assert attributes(server)[Attr.RPC_MESSAGES] == 3


async def test_spans_carry_the_request_and_no_content() -> None:
    spans = Spans()

    async def say(request: StringValue, context: Any) -> StringValue:
        span = trace.get_current_span()
        span.set_attribute("gen_ai.prompt", request.value)
        span.add_event("prompt", {"text": request.value})
        if request.value.endswith("!"):
            raise InvalidArgument.field("value", "is too loud")
        if request.value.endswith("?"):
            raise RuntimeError(request.value)
        return request

    caller = tenant_context("acme")
    async with serving(echo_service(say), telemetry=spans.telemetry("test")) as server:
        stub = EchoStub(server.channel(caller))
        await asyncio.gather(*(stub.Say(text(f"{CANARY}{end}")) for end in ("", "!", "?")), return_exceptions=True)
    served = [s for s in spans.all() if s.kind is SpanKind.SERVER]
    assert len(served) == 3
    for span in served:
        assert CANARY not in span.to_json()
        assert attributes(span)[Attr.REQUEST_ID] == caller.request_id
        assert attributes(span)[Attr.ORG] == "acme"
        assert not span.events
    by_code = {attributes(s)[Attr.RPC_STATUS]: attributes(s) for s in served}
    assert set(by_code) == {0, grpc.StatusCode.INVALID_ARGUMENT.value[0], grpc.StatusCode.INTERNAL.value[0]}
    assert by_code[3][Attr.REASON] == "ERROR_REASON_INVALID_FIELD"
    assert by_code[13][Attr.ERROR_ID].startswith("e_")


async def test_an_abandoned_stream_still_ends_its_span() -> None:
    spans = Spans()
    async with (
        serving(echo_service(), telemetry=spans.telemetry("test")) as server,
        EchoStub(server.channel()).Repeat(text("abc")) as call,
    ):
        assert (await anext(call)).value == "a"
    client = [s for s in spans.all() if s.kind is SpanKind.CLIENT]
    assert [attributes(s)[Attr.RPC_STATUS] for s in client] == [grpc.StatusCode.CANCELLED.value[0]]


def test_a_span_of_ones_own_is_a_child_and_leaves_no_exception_text() -> None:
    spans = Spans()
    telemetry = spans.telemetry("test")

    def fail() -> None:
        with telemetry.span(SpanName.CHOOSE), telemetry.span(SpanName.ENCODE, attributes={Attr.TIER: "SMALL"}):
            raise ValueError(CANARY)

    with pytest.raises(ValueError, match=CANARY):
        fail()
    encode, choose = spans.all()
    assert encode.parent is not None
    assert choose.context is not None
    assert encode.parent.span_id == choose.context.span_id
    assert CANARY not in encode.to_json() + choose.to_json()
    assert attributes(encode) == {Attr.TIER: "SMALL", Attr.ERROR_TYPE: "ValueError"}


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.sampled_from([0, 1]))
def test_a_traceparent_survives_the_way(trace_id: int, span_id: int, flags: int) -> None:
    sent = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))
    got = trace.get_current_span(tracing.extract({"traceparent": tracing.encode(sent)})).get_span_context()
    assert (got.trace_id, got.span_id, got.trace_flags) == (trace_id, span_id, flags)


TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def parsed(header: str, state: str = "") -> SpanContext | None:
    context = tracing.decode(header, state)
    return None if context is None else trace.get_current_span(context).get_span_context()


@given(st.text(max_size=60))
def test_what_is_no_traceparent_is_ignored(header: str) -> None:
    assert tracing.decode(header) is None
    assert tracing.extract({}) is None


@pytest.mark.parametrize(
    "header",
    [
        f"ff-{TRACE}-{SPAN}-01",
        f"zz-{TRACE}-{SPAN}-01",
        f"0-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN.upper()}-01",
        f"0A-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-FF",
        f"00-{TRACE}-{SPAN}-+1",
        f"00-{TRACE}-{SPAN}--1",
        f"00-{TRACE}-{SPAN}- 1",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE[:-2]}_1-{SPAN}-01",
        f"00-{TRACE[:15]}_{TRACE[16:]}-{SPAN}-01",
        f"00-0x{TRACE[2:]}-{SPAN}-01",
        f"00-+{TRACE[1:]}-{SPAN}-01",
        f"00- {TRACE[1:]}-{SPAN}-01",
        f"00-{TRACE[:-1]}\u0663-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{'g' * 32}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-extra",
        f"00-{TRACE}-{SPAN}-01-",
        f"01-{TRACE}-{SPAN}-01.extra",
        f"01-{TRACE}-{SPAN}-011",
        f"00-{TRACE}-{SPAN}-01\n",
        f" 00-{TRACE}-{SPAN}-01",
    ],
)
def test_what_breaks_the_rules_of_a_traceparent_begins_a_new_trace(header: str) -> None:
    assert parsed(header) is None


@pytest.mark.parametrize(
    ("header", "flags"),
    [
        (f"00-{TRACE}-{SPAN}-00", 0),
        (f"00-{TRACE}-{SPAN}-01", 1),
        (f"00-{TRACE}-{SPAN}-ff", 3),  # of the flags, only those that are known go on
        (f"01-{TRACE}-{SPAN}-01", 1),
        (f"01-{TRACE}-{SPAN}-01-extra", 1),
        (f"cc-{TRACE}-{SPAN}-00-", 0),
        (f"fe-{TRACE}-{SPAN}-01-what-the.future/brings", 1),
    ],
)
def test_a_trace_goes_on_under_this_version_and_later_ones(header: str, flags: int) -> None:
    got = parsed(header)
    assert got is not None
    assert (format(got.trace_id, "032x"), format(got.span_id, "016x"), got.trace_flags) == (TRACE, SPAN, flags)
    assert tracing.encode(got).startswith(f"00-{TRACE}-{SPAN}-0")


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("", ""),
        ("rojo=00f067aa0ba902b7", "rojo=00f067aa0ba902b7"),
        ("rojo=1 , congo=t61rcWkgMzE,\t,,1a-_*/@b= x", "rojo=1,congo=t61rcWkgMzE,1a-_*/@b= x"),
        ("Rojo=1", ""),
        ("1rojo=1", ""),
        ("rojo=1,congo", ""),
        ("rojo=", ""),
        ("rojo=a=b", ""),
        ("rojo=1,rojo=2", ""),
        ("rojo=caf\u00e9", ""),
        ("rojo=a\nb", ""),
        ("k" * 257 + "=1", ""),
        ("k=" + "v" * 257, ""),
        (",".join(f"k{n}=v" for n in range(33)), ""),
        (",".join(f"k{n}=v" for n in range(32)), ",".join(f"k{n}=v" for n in range(32))),
        ("long=" + "v" * 200 + "," + ",".join(f"k{n}=" + "v" * 20 for n in range(20)),
         ",".join(f"k{n}=" + "v" * 20 for n in range(20))),
        (",".join(f"k{n}=" + "v" * 97 for n in range(9)), ",".join(f"k{n}=" + "v" * 97 for n in range(5))),
    ],
)  # fmt: skip
def test_a_tracestate_goes_on_by_its_rules_and_within_its_limits(state: str, kept: str) -> None:
    got = parsed(f"00-{TRACE}-{SPAN}-01", state)
    assert got is not None
    assert got.trace_state.to_header() == kept
    assert dict(tracing.headers(got)).get("tracestate", "") == kept


async def test_a_tracestate_in_pieces_reaches_the_services_behind_only_with_its_traceparent() -> None:
    seen: list[dict[str, str]] = []

    async def say(request: StringValue, context: Any) -> StringValue:
        headers: dict[str, str] = {}
        tracing.inject(headers)
        seen.append(headers)
        return request

    spans = Spans()
    async with serving(echo_service(say), telemetry=spans.telemetry("test")) as server:
        stub = EchoStub(server.channel(telemetry=Telemetry("client")))
        parent = ("traceparent", f"00-{TRACE}-{SPAN}-01")
        await stub.Say(text("x"), metadata=[parent, ("tracestate", "a=1"), ("tracestate", "b=2")])
        await stub.Say(text("x"), metadata=[("traceparent", f"ff-{TRACE}-{SPAN}-01"), ("tracestate", "a=1")])
    first, second = seen
    assert first["traceparent"].split("-")[1] == TRACE
    assert first["tracestate"] == "a=1,b=2"
    assert second["traceparent"].split("-")[1] != TRACE
    assert "tracestate" not in second
