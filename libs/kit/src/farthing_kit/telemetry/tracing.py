"""How a trace crosses from one process to the next: W3C Trace Context, in metadata and in headers.

The rules: https://www.w3.org/TR/trace-context-2/. What breaks them is as good as absent: a new trace begins.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, Tracer, TraceState

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"
# Version, trace id, parent id, flags; what versions above 00 may say more begins with a dash.
_PARENT: Final = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL)
# Sampled and random: a flag that is not known is not passed on.
_FLAGS: Final = 0x03
_STATE_KEY: Final = re.compile(r"[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13}")
_STATE_VALUE: Final = re.compile(r"[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]")
_STATE_MEMBERS: Final = 32
_STATE_CHARS: Final = 512
_STATE_LONG_MEMBER: Final = 128


def silent_tracer() -> Tracer:
    """A tracer that records nothing and still passes on the trace it was called in."""
    return trace.NoOpTracer()


def encode(context: SpanContext) -> str:
    """The W3C traceparent of a span."""
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def decode(header: str | None, state: str = "") -> Context | None:
    """The context that a traceparent names, with its tracestate; None where there is none, or it is not one."""
    match = _PARENT.fullmatch(header) if header is not None else None
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or (version == "00" and more is not None):
        return None
    span = SpanContext(
        int(trace_id, 16),
        int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16) & _FLAGS),
        trace_state=TraceState(_members(state)) if state else None,
    )
    return trace.set_span_in_context(NonRecordingSpan(span), Context()) if span.is_valid else None


def headers(context: SpanContext) -> list[tuple[str, str]]:
    """What carries a span to the next process; nothing for one that is not valid."""
    if not context.is_valid:
        return []
    pairs = [(TRACEPARENT, encode(context))]
    if context.trace_state:
        pairs.append((TRACESTATE, context.trace_state.to_header()))
    return pairs


def inject(target: MutableMapping[str, str]) -> None:
    """Write the current trace into the headers of a message (NATS)."""
    target.update(headers(trace.get_current_span().get_span_context()))


def extract(found: Mapping[str, str] | None) -> Context | None:
    """The trace that a message's headers name."""
    return decode(found.get(TRACEPARENT), found.get(TRACESTATE, "")) if found else None


def _members(state: str) -> list[tuple[str, str]]:
    """The members of a tracestate. None of them where one breaks the rules, or there are too many; where they are too
    long to be passed on, the long ones go first, then the last."""
    members: dict[str, str] = {}
    for text in state.split(","):
        member = text.strip(" \t")
        key, _, value = member.partition("=")
        if not member:
            continue
        if not _STATE_KEY.fullmatch(key) or not _STATE_VALUE.fullmatch(value) or key in members:
            return []
        members[key] = value
    if len(members) > _STATE_MEMBERS:
        return []
    kept = list(members.items())
    if _length(kept) > _STATE_CHARS:
        kept = [member for member in kept if _length([member]) <= _STATE_LONG_MEMBER]
    while _length(kept) > _STATE_CHARS:
        kept.pop()
    return kept


def _length(members: Sequence[tuple[str, str]]) -> int:
    return sum(len(key) + 1 + len(value) + 1 for key, value in members) - 1
