"""A durable outbox: a message is on local disk before the caller is answered, and in JetStream as soon as that can be.

Promise: what `append` accepted reaches the stream at least once, and once only within the stream's duplicate window,
through kill -9 of this process, restarts and outages of NATS. Consumers keep ids longer than that window.

Durability of `append`: by default a write() into the page cache, which outlives the process but not a loss of power.
With `fsync=True` it returns after fsync; appends within COMMIT_WINDOW_S share one.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from opentelemetry import trace

from farthing_kit.errors import InvalidArgument, QueueUnavailable
from farthing_kit.journal import Journal, JournalFull, Record
from farthing_kit.telemetry import Telemetry, logs, tracing
from farthing_kit.telemetry.names import MetricName

MAX_BYTES: Final = 64 * 1024 * 1024
SEGMENT_BYTES: Final = 4 * 1024 * 1024
MAX_RECORD_BYTES: Final = 512 * 1024
MAX_BATCH: Final = 128
MAX_BATCH_BYTES: Final = 256 * 1024
# Nobody waits for a record once it is in the journal; the books are this much later. Every batch costs a sync in
# JetStream, and its readers a transaction: at 60 records a second, a fifth of the whole mesh's processor at 0.05. At
# 0.2 a batch keeps the processors so long that who is answered meanwhile waits: p99 of hits is 20 to 40 ms.
GATHER_S: Final = 0.1
PUBLISH_TIMEOUT_S: Final = 2.0
BACKOFF_S: Final = (0.05, 2.0)
FLUSH_TIMEOUT_S: Final = 5.0
COMMIT_WINDOW_S: Final = 0.005

# JetStream's code for a batch to a stream without allow_atomic.
_ATOMIC_DISABLED: Final = 10174

_log = logs.get("kit.outbox")


class Outbox:
    """Made by `open_outbox`. Safe for any number of concurrent appends in one event loop."""

    def __init__(
        self, folder: Path, js: JetStreamContext, telemetry: Telemetry, *, max_bytes: int, fsync: bool
    ) -> None:
        self._journal = Journal(folder, max_bytes=max_bytes, segment_bytes=min(SEGMENT_BYTES, max_bytes))
        self._js = js
        # nats-py keeps it private; a batch is made of plain publishes on the same connection.
        self._client: Client = js._nc
        self._atomic = True
        self._fsync = fsync
        self._queue: deque[Record] = deque()
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._commit: asyncio.Task[None] | None = None
        self._backoff_s = BACKOFF_S[0]
        self._failing = False
        self._broken = False
        metrics = telemetry.metrics
        self._pending_gauge = metrics.gauge(MetricName.OUTBOX_PENDING, "Records not yet acknowledged by JetStream.")
        self._bytes_gauge = metrics.gauge(MetricName.OUTBOX_BYTES, "Bytes that the journal takes on disk.")
        self._published = metrics.counter(MetricName.OUTBOX_PUBLISHED, "Records acknowledged by JetStream.")
        self._refused = metrics.counter(MetricName.OUTBOX_REFUSED, "Records refused because the journal is full.")

    @property
    def pending(self) -> int:
        """Records that JetStream has not acknowledged yet."""
        return self._journal.pending

    async def append(self, message_id: str, subject: str, payload: bytes) -> None:
        """Put a message on disk; it is published in the background as Nats-Msg-Id `message_id`, in the trace at hand.

        QueueUnavailable when the journal is full: nothing was accepted. An id that is still pending is accepted once.
        """
        if len(payload) > MAX_RECORD_BYTES:
            raise InvalidArgument(f"the message has {len(payload)} bytes; the outbox takes {MAX_RECORD_BYTES}")
        if message_id in self._journal:
            return
        record = Record(message_id, subject, payload, _traceparent())
        try:
            if self._broken:
                raise JournalFull("publishing stopped")
            self._journal.append(record)
        except JournalFull as error:
            self._refused.inc()
            raise QueueUnavailable(
                "usage cannot be written down at present, so nothing is served; try again later",
                metadata={"cause": str(error)},
                retry_after_s=1.0,
            ) from error
        self._queue.append(record)
        self._changed()
        if self._fsync:
            await self._committed()

    async def flushed(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until JetStream has acknowledged everything; False if it has not within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def open(self) -> None:
        """Take the folder, and queue what a former process left in it."""
        left = self._journal.open()
        self._queue.extend(left)
        if left:
            _log.info("found records of a former process", records=len(left))
        self._changed()

    def close(self) -> None:
        """Give the folder back; what is pending stays in it."""
        if self._journal.pending:
            _log.warning("left records for the next process", records=self._journal.pending)
        self._journal.close()

    async def publish_forever(self) -> None:
        """Publish what is queued, in order, until cancelled.

        A batch gathers for a moment unless it is full, and while the one before it is synced: alone, a message costs
        many times what it costs in a batch.
        """
        while True:
            await self._work.wait()
            if len(self._queue) < MAX_BATCH:
                await asyncio.sleep(GATHER_S)
            batch = self._next_batch()
            if len(batch) > 1 and self._atomic and await self._published_as_one(batch):
                self._acknowledge(batch)
                continue
            async with asyncio.TaskGroup() as group:
                for record in batch:
                    group.create_task(self._publish(record))

    def _next_batch(self) -> list[Record]:
        batch: list[Record] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            batch.append(self._queue.popleft())
            size += len(batch[-1].payload)
        if not self._queue:
            self._work.clear()
        return batch

    async def _published_as_one(self, batch: Sequence[Record]) -> bool:
        """Publish a batch that JetStream takes as a whole or not at all (ADR-50): one sync, one acknowledgement.

        False after any failure: then each record goes by itself, under its id, which is right whatever had happened.
        """
        try:
            refusal = await publish_batch(self._client, batch)
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        if refusal == _ATOMIC_DISABLED:
            self._atomic = False
        return refusal is None

    async def _publish(self, record: Record) -> None:
        """Publish one record until it is acknowledged: an outage stops the queue behind it."""
        while True:
            try:
                await self._js.publish(
                    record.subject, record.payload, timeout=PUBLISH_TIMEOUT_S, headers=_headers(record)
                )
                break
            except (nats.errors.Error, OSError, TimeoutError) as error:
                await self._pause(error)
        self._acknowledge([record])

    def _acknowledge(self, records: Sequence[Record]) -> None:
        self._recovered()
        for record in records:
            self._journal.acknowledge(record.id)
        self._published.inc(len(records))
        self._changed()

    async def _pause(self, error: Exception) -> None:
        if not self._failing:
            self._failing = True
            _log.warning("JetStream does not take records; trying on", kind=type(error).__name__, records=self.pending)
        await asyncio.sleep(self._backoff_s * random.uniform(0.5, 1.0))
        self._backoff_s = min(self._backoff_s * 2, BACKOFF_S[1])

    def _recovered(self) -> None:
        self._backoff_s = BACKOFF_S[0]
        if self._failing:
            self._failing = False
            _log.info("JetStream takes records again", records=self.pending)

    def crashed(self, publisher: asyncio.Task[None]) -> None:
        """For the publisher's end: from then on nothing is accepted, which is safer than a journal that only fills."""
        if not publisher.cancelled():
            self._broken = True
            _log.error("the outbox stopped publishing", exception=publisher.exception())

    def _changed(self) -> None:
        self._pending_gauge.set(self._journal.pending)
        self._bytes_gauge.set(self._journal.bytes)
        if self._queue:
            self._work.set()
        if self._journal.pending:
            self._empty.clear()
        else:
            self._empty.set()

    async def _committed(self) -> None:
        """Share one fsync among the appends of a short window."""
        if self._commit is None or self._commit.done():
            self._commit = asyncio.create_task(self._sync_soon(), name="outbox commit")
        await asyncio.shield(self._commit)

    async def _sync_soon(self) -> None:
        await asyncio.sleep(COMMIT_WINDOW_S)
        self._commit = None
        await asyncio.to_thread(self._journal.syncer())


@asynccontextmanager
async def open_outbox(
    folder: Path,
    js: JetStreamContext,
    telemetry: Telemetry,
    *,
    max_bytes: int = MAX_BYTES,
    fsync: bool = False,
    flush_timeout_s: float = FLUSH_TIMEOUT_S,
) -> AsyncIterator[Outbox]:
    """An outbox over `folder`, which belongs to one process.

    At the end it waits `flush_timeout_s` for the last records; what is left then is published by the next process that
    opens the folder.
    """
    outbox = Outbox(folder, js, telemetry, max_bytes=max_bytes, fsync=fsync)
    outbox.open()
    publisher = asyncio.create_task(outbox.publish_forever(), name="outbox publisher")
    publisher.add_done_callback(outbox.crashed)
    try:
        yield outbox
        await outbox.flushed(flush_timeout_s)
    finally:
        publisher.cancel()
        await asyncio.wait({publisher})
        outbox.close()


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
    return {**_headers(record), "Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}


def _headers(record: Record) -> dict[str, str]:
    headers = {"Nats-Msg-Id": record.id}
    if record.trace:
        headers[tracing.TRACEPARENT] = record.trace
    return headers


def _traceparent() -> str:
    context = trace.get_current_span().get_span_context()
    return tracing.encode(context) if context.is_valid else ""
