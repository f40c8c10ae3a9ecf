"""`farthing trace`: draws the spans of one request as a waterfall, from the file that the collector writes."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from farthing_cli.console import Console, Table, Text
from farthing_cli.errors import CliError
from farthing_kit.labels import escaped
from farthing_kit.telemetry.names import Attr

BAR_CELLS = 40
NANOS_PER_MS = 1_000_000
# The exporters of the services and of Triton write in batches.
PATIENCE_S = 8.0
POLL_S = 0.5


@dataclass(frozen=True)
class Span:
    """A piece of work of one service; times in nanoseconds since the epoch."""

    trace_id: str
    span_id: str
    parent_id: str
    name: str
    service: str
    start_ns: int
    end_ns: int
    failed: bool


def spans_of(file: Path, request_id: str) -> list[Span]:
    """The spans of the trace that a request belongs to, by start; empty when the file has none (yet)."""
    marker = f'"{request_id}"'
    trace_ids = {
        span.get("traceId", "") for _, span in _raw_spans(file, lambda line: marker in line) if _is_of(span, request_id)
    }
    if not trace_ids:
        return []
    belongs = _raw_spans(file, lambda line: any(trace_id in line for trace_id in trace_ids))
    found = [_span(service, span) for service, span in belongs if span.get("traceId") in trace_ids]
    return sorted(found, key=lambda span: span.start_ns)


def _raw_spans(file: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(service, OTLP span) of every line that is wanted; a line that is being written is left out."""
    if not file.exists():
        return
    with file.open(encoding="utf-8", errors="replace", newline="\n") as lines:
        for line in filter(wanted, lines):
            try:
                batch = json.loads(line)
            except ValueError:
                continue
            for resource in batch.get("resourceSpans", []):
                service = _attribute(resource.get("resource", {}), "service.name") or "?"
                for scope in resource.get("scopeSpans", []):
                    yield from ((service, span) for span in scope.get("spans", []))


def _attribute(holder: dict[str, Any], key: str) -> str | None:
    """The text of an attribute of an OTLP object."""
    attributes = holder.get("attributes", [])
    return next((each.get("value", {}).get("stringValue") for each in attributes if each.get("key") == key), None)


def _is_of(span: dict[str, Any], request_id: str) -> bool:
    return _attribute(span, Attr.REQUEST_ID) == request_id


def _span(service: str, raw: dict[str, Any]) -> Span:
    status = raw.get("status") or {}
    return Span(
        trace_id=raw["traceId"],
        span_id=raw.get("spanId", ""),
        parent_id=raw.get("parentSpanId", ""),
        name=raw.get("name", ""),  # what is empty or 0 is left out
        service=service,
        start_ns=int(raw.get("startTimeUnixNano", 0)),
        end_ns=int(raw.get("endTimeUnixNano", 0)),
        failed=status.get("code") in (2, "STATUS_CODE_ERROR"),
    )


def wait_for(file: Path, request_id: str) -> list[Span]:
    """The spans of a request, once they stopped growing: they reach the file some seconds after the answer."""
    give_up = time.monotonic() + PATIENCE_S
    spans: list[Span] = []
    while time.monotonic() < give_up:
        found = spans_of(file, request_id)
        if found and len(found) == len(spans):
            return found
        spans = found
        time.sleep(POLL_S)
    if not spans:
        raise CliError(
            f"no span of {request_id} in {file}: check the id (the last line of `farthing ask` shows it), "
            "and that tracing was on when it ran"
        )
    return spans


def in_tree_order(spans: Sequence[Span]) -> list[tuple[int, Span]]:
    """(depth, span): parents before children, siblings by start. A span whose parent is missing is a root."""
    known = {span.span_id for span in spans}
    children: dict[str, list[Span]] = {}
    for span in spans:
        children.setdefault(span.parent_id if span.parent_id in known else "", []).append(span)
    ordered: list[tuple[int, Span]] = []
    pending = [(0, span) for span in reversed(children.get("", []))]
    while pending:
        depth, span = pending.pop()
        ordered.append((depth, span))
        pending.extend((depth + 1, child) for child in reversed(children.get(span.span_id, [])))
    return ordered


def waterfall(spans: Sequence[Span]) -> Table:
    """One row a span: service, name (indented), a bar on the time axis, duration."""
    first = min(span.start_ns for span in spans)
    last = max(span.end_ns for span in spans)
    table = Table(box=None, pad_edge=False, title=f"trace {spans[0].trace_id}", title_justify="left")
    table.add_column("service", style="cyan", no_wrap=True)
    table.add_column("span", no_wrap=True)
    table.add_column(f"0 to {(last - first) / NANOS_PER_MS:.1f} ms", no_wrap=True)
    table.add_column("ms", justify="right")
    for depth, span in in_tree_order(spans):
        style = "red" if span.failed else ""
        name = Text("  " * depth + escaped(span.name), style=style)
        table.add_row(span.service, name, bar(span, first, last), f"{(span.end_ns - span.start_ns) / NANOS_PER_MS:.2f}")
    return table


def bar(span: Span, first_ns: int, last_ns: int) -> str:
    """Where a span lies on the axis; at least one cell long."""
    cell_ns = max(1, last_ns - first_ns) / BAR_CELLS
    start = min(BAR_CELLS - 1, int((span.start_ns - first_ns) / cell_ns))
    length = max(1, min(BAR_CELLS - start, round((span.end_ns - span.start_ns) / cell_ns)))
    return " " * start + "█" * length


def show(file: Path, request_id: str, console: Console) -> None:
    """Draw the trace of a request."""
    console.print(waterfall(wait_for(file, request_id)))
