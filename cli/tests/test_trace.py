"""Reading the collector's file, and drawing it."""

import json
from pathlib import Path

import pytest

from farthing_cli import trace
from farthing_cli.console import Console
from farthing_cli.errors import CliError
from farthing_kit.telemetry.names import Attr

MS = 1_000_000


def span(
    span_id: str, parent_id: str, start_ms: int, end_ms: int, request_id: str = "", trace_id: str = "t1"
) -> dict[str, object]:
    attributes = [{"key": Attr.REQUEST_ID, "value": {"stringValue": request_id}}] if request_id else []
    return {
        "traceId": trace_id,
        "spanId": span_id,
        "parentSpanId": parent_id,
        "name": f"span {span_id}",
        "startTimeUnixNano": str(start_ms * MS),
        "endTimeUnixNano": str(end_ms * MS),
        "attributes": attributes,
    }


def batch(service: str, *spans: dict[str, object]) -> str:
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": service}}]}
    return json.dumps({"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": list(spans)}]}]}) + "\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "spans.jsonl"
    path.write_text(
        batch("cache", span("b", "a", 10, 20), span("x", "", 0, 1, "q_2", "t2"))
        + batch("gateway", span("a", "", 0, 100, "q_1"))
        + batch("triton", span("c", "b", 12, 18))
        + '{"resourceSpans": [{"resou'
    )
    return path


def test_all_spans_of_the_request_are_found_and_no_other(file: Path) -> None:
    assert [each.span_id for each in trace.spans_of(file, "q_1")] == ["a", "b", "c"]


def test_a_line_that_is_damaged_or_leaves_fields_out_hides_no_other(file: Path) -> None:
    bare: dict[str, object] = {"traceId": "t1", "attributes": [{"key": "x"}, {}]}
    file.write_bytes(b"\xff\n" + file.read_bytes() + b"\n" + batch("x", bare).encode())
    assert {each.span_id for each in trace.spans_of(file, "q_1")} == {"", "a", "b", "c"}


def test_an_unknown_request_has_no_spans(file: Path) -> None:
    assert trace.spans_of(file, "q_") == []


def test_children_come_below_their_parents(file: Path) -> None:
    assert [(depth, each.span_id) for depth, each in trace.in_tree_order(trace.spans_of(file, "q_1"))] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
    ]


def test_a_span_whose_parent_is_missing_is_drawn_as_a_root(file: Path) -> None:
    orphans = [each for each in trace.spans_of(file, "q_1") if each.span_id != "a"]
    assert trace.in_tree_order(orphans)[0][0] == 0


def test_bars_lie_where_the_work_was(file: Path) -> None:
    spans = trace.spans_of(file, "q_1")
    assert trace.bar(spans[0], 0, 100 * MS) == "█" * trace.BAR_CELLS
    assert trace.bar(spans[1], 0, 100 * MS) == " " * 4 + "█" * 4


def test_the_waterfall_names_services_and_durations(file: Path) -> None:
    console = Console(record=True, width=160)
    trace.show(file, "q_1", console)
    drawn = console.export_text()
    for shown in ("gateway", "triton", "100.00"):
        assert shown in drawn


def test_a_request_without_spans_gets_one_clear_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace, "PATIENCE_S", 0.0)
    with pytest.raises(CliError, match="check the id"):
        trace.show(tmp_path / "none.jsonl", "q_9", Console())
