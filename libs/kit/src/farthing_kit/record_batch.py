"""Records of a journal as messages of JetStream, and atomic batches of them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client
from opentelemetry import trace

from farthing_kit.journal_format import Record
from farthing_kit.telemetry import tracing

PUBLISH_TIMEOUT_S: Final = 2.0


async def publish_batch(client: Client, batch: Sequence[Record]) -> int | None:
    """Publish records of one stream as one atomic batch. None once stored; else JetStream's error code."""
    batch_id = secrets.token_hex(8)
    *others, last = batch
    for number, record in enumerate(others, start=1):
        await client.publish(record.subject, record.payload, headers=_in_batch(record, batch_id, number))
    commit = {**_in_batch(last, batch_id, len(batch)), "Nats-Batch-Commit": "1"}
    answer = await client.request(last.subject, last.payload, timeout=PUBLISH_TIMEOUT_S, headers=commit)
    error = json.loads(answer.data).get("error")
    return None if error is None else int(error.get("err_code", 0))


def _in_batch(record: Record, batch_id: str, number: int) -> dict[str, str]:
    return {**record_headers(record), "Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}


def record_headers(record: Record) -> dict[str, str]:
    """The headers of a record's message."""
    headers = {"Nats-Msg-Id": record.id}
    if record.trace:
        headers[tracing.TRACEPARENT] = record.trace
    return headers


def traceparent() -> str:
    """The trace at hand, as a record keeps it."""
    context = trace.get_current_span().get_span_context()
    return tracing.encode(context) if context.is_valid else ""
