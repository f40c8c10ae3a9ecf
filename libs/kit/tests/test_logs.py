"""Log lines hold ids and places, never what people wrote."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from farthing_kit.context import use_context
from farthing_kit.settings import LogFormat, LogLevel
from farthing_kit.telemetry import SpanName, logs
from farthing_kit.testing.server import Spans, tenant_context

CANARY = "canary-prompt-text"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield io.StringIO()
    root.handlers[:] = handlers
    root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_tied_to_its_request_and_its_trace(stream: io.StringIO) -> None:
    logs.setup("gateway", stream=stream)
    context, telemetry = tenant_context(), Spans().telemetry("gateway")
    with use_context(context), telemetry.span(SpanName.CHOOSE) as span:
        logs.get("gateway").info("chose", tier="SMALL", duration_ms=3)
    (line,) = lines(stream)
    assert line["service"] == "gateway"
    assert line["event"] == "chose"
    assert (line["tier"], line["duration_ms"], line["level"]) == ("SMALL", 3, "info")
    assert line["request_id"] == context.request_id
    assert line["trace_id"] == f"{span.get_span_context().trace_id:032x}"


def test_fields_that_no_list_names_are_dropped_and_named(stream: io.StringIO) -> None:
    logs.setup("gateway", stream=stream)
    logs.get("gateway").info("asked", prompt=CANARY, model="small")
    (line,) = lines(stream)
    assert line["dropped"] == ["prompt"]
    assert CANARY not in stream.getvalue()


def test_an_exception_shows_its_type_and_places_only(stream: io.StringIO) -> None:
    logs.setup("gateway", stream=stream)
    try:
        raise ValueError(CANARY)
    except ValueError as error:
        logs.get("gateway").error("failed", exception=error)
        logging.getLogger("some.library").exception("it went wrong: %s", CANARY)
    assert CANARY not in stream.getvalue()
    ours, theirs = lines(stream)
    assert ours["exception"] == theirs["exception"] == "ValueError"
    assert "test_an_exception_shows" in ours["stack"][0]
    assert theirs["event"] == "it went wrong: %s"


def test_a_line_of_a_library_that_says_nothing_is_a_line(stream: io.StringIO) -> None:
    logs.setup("gateway", stream=stream)
    logging.getLogger("some.library").warning("")
    logging.getLogger("some.library").warning("first\nsecond")
    assert [line["event"] for line in lines(stream)] == ["", "first"]


def test_levels_and_forms_are_as_set(stream: io.StringIO) -> None:
    logs.setup("gateway", format=LogFormat.TEXT, level=LogLevel.WARNING, stream=stream)
    log = logs.get("gateway")
    log.debug("no")
    log.info("no")
    log.warning("yes", pool="cpu")
    assert stream.getvalue().count("\n") == 1
    assert "warning" in stream.getvalue()
    assert "yes" in stream.getvalue()
    assert "pool=cpu" in stream.getvalue()
