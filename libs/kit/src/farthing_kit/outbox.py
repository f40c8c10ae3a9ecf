"""A durable outbox: a message is on local disk before the caller is answered, and in JetStream as soon as that can be.

Promise: what `append` accepted reaches the stream at least once, and once only within the stream's duplicate window,
through kill -9 of this process, restarts and outages of NATS. Consumers keep ids longer than that window. No record
waits for another that cannot be delivered: what the server refuses for good is set aside, in the folder `refused`, and
tried once more by each process that opens the outbox.

Durability of `append`: by default a write() into the page cache, which outlives the process but not a loss of power.
With `fsync=True` it returns after fsync; appends within COMMIT_WINDOW_S share one.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from farthing_kit import record_batch, tasks
from farthing_kit.clock import Clock
from farthing_kit.errors import InvalidArgument, QueueUnavailable
from farthing_kit.journal import Journal, JournalFull, Record
from farthing_kit.nats import payload_limit
from farthing_kit.record_batch import publish_batch, record_headers, traceparent
from farthing_kit.telemetry import Telemetry, logs
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
BACKOFF_S: Final = (0.05, 2.0)
FLUSH_TIMEOUT_S: Final = 5.0
COMMIT_WINDOW_S: Final = 0.005
WATCH_S: Final = 5.0
MAX_REFUSED_BYTES: Final = 16 * 1024 * 1024
# What is refused as often as that, each time while others go through, is refused for good.
MAX_REFUSALS: Final = 10
MAX_NAME_CHARS: Final = 256

# JetStream's code for a batch to a stream without allow_atomic.
_ATOMIC_DISABLED: Final = 10174
# Its codes for a message, and for headers, that are larger than the stream takes.
_TOO_LARGE: Final = frozenset({10054, 10097})
# What a stream says that is full, or has no leader: another may take its records meanwhile.
_FULL: Final = nats.js.errors.ServiceUnavailableError
# A name of a message, and a subject without wildcards.
_ID: Final = re.compile(r"[!-~]+")
_SUBJECT: Final = re.compile(r"[^\s.*>]+(\.[^\s.*>]+)*")

_log = logs.get("kit.outbox")


Report = Callable[..., Awaitable[None]]


class Outbox:
    """Made by `open_outbox`. Safe for any number of concurrent appends in one event loop."""

    def __init__(
        self, folder: Path, js: JetStreamContext, telemetry: Telemetry, *, max_bytes: int, fsync: bool
    ) -> None:
        self._journal = Journal(folder, max_bytes=max_bytes, segment_bytes=min(SEGMENT_BYTES, max_bytes))
        self._aside = Journal(folder / "refused", max_bytes=MAX_REFUSED_BYTES, segment_bytes=SEGMENT_BYTES)
        self._js = js
        # nats-py keeps it private; a batch is made of plain publishes on the same connection.
        self._client: Client = js._nc
        self._atomic = True
        self._fsync = fsync
        self._queue: deque[Record] = deque()
        self._refusals: Counter[str] = Counter()
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._commit: asyncio.Task[None] | None = None
        self._backoff_s = BACKOFF_S[0]
        self._failing = False
        self._refusing = False
        self._broken = False
        self._metrics = _Metrics(telemetry)

    @property
    def pending(self) -> int:
        """Records that JetStream has not acknowledged yet."""
        return self._journal.pending

    @property
    def set_aside(self) -> int:
        """Records that JetStream refuses for good."""
        return self._aside.pending

    async def append(self, message_id: str, subject: str, payload: bytes) -> None:
        """Put a message on disk; it is published in the background as Nats-Msg-Id `message_id`, in the trace at hand.

        InvalidArgument for what no server would take. QueueUnavailable when the journal or the disk is full or refuses:
        nothing was accepted. An id that is still pending is accepted once.
        """
        self._check(message_id, subject, payload)
        if message_id in self._journal or message_id in self._aside:
            return
        record = Record(message_id, subject, payload, traceparent())
        try:
            if self._broken:
                raise JournalFull("publishing stopped")
            self._journal.append(record)
        except JournalFull as error:
            raise self._refused(error) from error
        self._refusing = False
        self._queue.append(record)
        self._changed()
        if self._fsync:
            await self._committed(record)

    async def flushed(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Wait until JetStream has acknowledged everything but what it refuses; False if not within `timeout_s`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def open(self) -> None:
        """Take the folder, and queue what a former process left in it; what was refused then comes last."""
        left, refused = self._journal.open(), self._aside.open()
        self._queue.extend(left)
        self._queue.extend(record for record in refused if record.id not in self._journal)
        if self._queue:
            _log.info("found records of a former process", records=len(self._queue))
        self._metrics.damaged.inc(self._journal.damages + self._aside.damages)
        self._changed()

    def close(self) -> None:
        """Give the folder back; what is pending stays in it."""
        if self._journal.pending:
            _log.warning("left records for the next process", records=self._journal.pending)
        self._journal.close()
        self._aside.close()

    def accepts(self) -> bool:
        """Whether a record would be accepted now. Asks the disk, if it refused the last one."""
        if self._refusing:
            try:
                self._journal.probe()
                self._refusing = False
            except JournalFull:
                pass
        return not self._refusing and not self._broken

    def whole(self) -> bool:
        """Whether nothing waits for a person: no damaged file, no record that is refused for good."""
        damaged_files = self._journal.damaged_files + self._aside.damaged_files
        self._metrics.damaged_files.set(damaged_files)
        return not damaged_files and not self._aside.pending

    async def watch(self, report: Report, clock: Clock) -> None:
        """Report to health, for ever: `outbox` serves while it accepts, `outbox-records` while all is deliverable."""
        while True:
            await report("outbox", self.accepts(), required=False)
            await report("outbox-records", self.whole(), required=False)
            await clock.sleep(WATCH_S)

    async def publish_forever(self) -> None:
        """Publish what is queued until cancelled, in order as long as nothing is refused.

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
            elif batch:
                await self._publish_each(batch)

    def crashed(self, _: BaseException) -> None:
        """For the publisher's end: from then on nothing is accepted, which is safer than a journal that only fills."""
        self._broken = True

    def _check(self, message_id: str, subject: str, payload: bytes) -> None:
        limit = min(MAX_RECORD_BYTES, payload_limit(self._client))
        if len(payload) > limit:
            raise InvalidArgument(f"the message has {len(payload)} bytes; the outbox takes {limit}")
        if len(message_id) > MAX_NAME_CHARS or not _ID.fullmatch(message_id):
            raise InvalidArgument(f"the message's id must be 1 to {MAX_NAME_CHARS} visible ASCII characters")
        if len(subject) > MAX_NAME_CHARS or not _SUBJECT.fullmatch(subject):
            raise InvalidArgument("the message's subject must be tokens without spaces or wildcards, with dots between")

    def _next_batch(self) -> list[Record]:
        """Records that the server can take, as far as is known beforehand."""
        batch: list[Record] = []
        size = 0
        while self._queue and len(batch) < MAX_BATCH and size < MAX_BATCH_BYTES:
            record = self._queue.popleft()
            if self._is_too_large(record) and self._set_aside(record, "larger than the server's max_payload"):
                continue
            batch.append(record)
            size += len(record.payload)
        if not self._queue:
            self._work.clear()
        return batch

    def _is_too_large(self, record: Record) -> bool:
        return self._client.is_connected and len(record.payload) > payload_limit(self._client)

    async def _published_as_one(self, batch: Sequence[Record]) -> bool:
        """Publish a batch that JetStream takes as a whole or not at all (ADR-50): one sync, one acknowledgement.

        False after any failure: then each record goes by itself, under its id, which is right whatever had happened.
        """
        try:
            refusal = await publish_batch(self._client, batch)
        except (nats.errors.Error, OSError, TimeoutError, ValueError):
            return False
        if refusal == _ATOMIC_DISABLED:
            self._atomic = False
        return refusal is None

    async def _publish_each(self, batch: Sequence[Record]) -> None:
        """Publish each record by itself, once. An outage stops the queue: all stay at its head. While others go
        through, what does not is tried again, and at last set aside: it stops nobody."""
        answers = await asyncio.gather(*(self._publish(record) for record in batch), return_exceptions=True)
        failed = [(record, error) for record, error in zip(batch, answers, strict=True) if error is not None]
        accepted = [record for record, error in zip(batch, answers, strict=True) if error is None]
        if accepted:
            self._acknowledge(accepted)
            self._refusals.update(record.id for record, error in failed if not isinstance(error, _FULL))
        left = [record for record, error in failed if not self._is_over(record, error)]
        self._queue.extendleft(reversed(left))
        self._changed()
        if len(left) == len(batch):
            await self._pause(failed[0][1])

    async def _publish(self, record: Record) -> None:
        await self._js.publish(
            record.subject, record.payload, timeout=record_batch.PUBLISH_TIMEOUT_S, headers=record_headers(record)
        )

    def _is_over(self, record: Record, error: BaseException) -> bool:
        """Whether a record that was not taken is not to be tried again, and was set aside."""
        too_large = isinstance(error, nats.js.errors.APIError) and error.err_code in _TOO_LARGE
        unsendable = isinstance(error, nats.errors.BadSubjectError | nats.errors.MaxPayloadError | ValueError)
        if not too_large and not unsendable and self._refusals[record.id] < MAX_REFUSALS:
            return False
        return self._set_aside(record, type(error).__name__)

    def _set_aside(self, record: Record, cause: str) -> bool:
        """Keep a record apart. False, and it stays where it is, if that cannot be."""
        try:
            if record.id not in self._aside:
                self._aside.append(record)
        except JournalFull as error:
            if self._refusals[record.id] <= MAX_REFUSALS:  # said once
                _log.error("a record is refused for good and cannot be set aside", exception=error, cause=cause)
            self._refusals[record.id] = MAX_REFUSALS + 1
            return False
        _log.error(
            "JetStream refuses a record for good: set aside, and tried again at the next start",
            cause=cause,
            bytes=len(record.payload),
            records=self._aside.pending,
        )
        self._refusals.pop(record.id, None)
        self._journal.acknowledge(record.id)
        self._changed()
        return True

    def _acknowledge(self, records: Sequence[Record]) -> None:
        self._recovered()
        for record in records:
            self._refusals.pop(record.id, None)
            self._journal.acknowledge(record.id)
            self._aside.acknowledge(record.id)
        self._metrics.published.inc(len(records))
        self._changed()

    async def _pause(self, error: BaseException) -> None:
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

    def _refused(self, error: JournalFull) -> QueueUnavailable:
        if not self._refusing:
            _log.error("the outbox accepts nothing", exception=error, cause=str(error), records=self.pending)
        self._refusing = True
        self._metrics.refused.inc()
        return QueueUnavailable(
            "usage cannot be written down at present, so nothing is served; try again later",
            metadata={"cause": str(error)},
            retry_after_s=1.0,
        )

    def _changed(self) -> None:
        self._metrics.show(self._journal, self._aside)
        if self._queue:
            self._work.set()
        if self._journal.pending:
            self._empty.clear()
        else:
            self._empty.set()

    async def _committed(self, record: Record) -> None:
        """Share one fsync among the appends of a short window. If the disk refuses, what was not sent yet is taken
        back, so that whoever hears of the refusal can rely on it."""
        if self._commit is None or self._commit.done():
            self._commit = tasks.awaited("outbox commit", self._sync_soon())
        try:
            await asyncio.shield(self._commit)
        except JournalFull as error:
            if record not in self._queue:
                return
            self._queue.remove(record)
            self._journal.acknowledge(record.id)
            self._changed()
            raise self._refused(error) from error

    async def _sync_soon(self) -> None:
        await asyncio.sleep(COMMIT_WINDOW_S)
        self._commit = None
        await asyncio.to_thread(self._journal.syncer())


class _Metrics:
    """What an outbox shows of itself."""

    def __init__(self, telemetry: Telemetry) -> None:
        metrics = telemetry.metrics
        self.pending = metrics.gauge(MetricName.OUTBOX_PENDING, "Records not yet acknowledged by JetStream.")
        self.bytes = metrics.gauge(MetricName.OUTBOX_BYTES, "Bytes that the journal takes on disk.")
        self.published = metrics.counter(MetricName.OUTBOX_PUBLISHED, "Records acknowledged by JetStream.")
        self.refused = metrics.counter(MetricName.OUTBOX_REFUSED, "Records refused because the journal is full.")
        self.damaged = metrics.counter(MetricName.OUTBOX_DAMAGED, "Damaged stretches found in files of the journal.")
        self.damaged_files = metrics.gauge(
            MetricName.OUTBOX_DAMAGED_FILES, "Files with damaged bytes: look at them, then remove *.damaged."
        )
        self.set_aside = metrics.gauge(MetricName.OUTBOX_SET_ASIDE, "Records that JetStream refuses for good.")

    def show(self, journal: Journal, aside: Journal) -> None:
        """Bring the gauges up to date."""
        self.pending.set(journal.pending)
        self.bytes.set(journal.size)
        self.set_aside.set(aside.pending)


@asynccontextmanager
async def open_outbox(
    folder: Path,
    js: JetStreamContext,
    telemetry: Telemetry,
    *,
    max_bytes: int = MAX_BYTES,
    fsync: bool = False,
    flush_timeout_s: float = FLUSH_TIMEOUT_S,
    died: tasks.Died | None = None,
) -> AsyncIterator[Outbox]:
    """An outbox over `folder`, which belongs to one process.

    At the end it waits `flush_timeout_s` for the last records; what is left then is published by the next process that
    opens the folder. died: hears of the publisher's death, after which nothing is accepted any more; Process.crash.
    """
    outbox = Outbox(folder, js, telemetry, max_bytes=max_bytes, fsync=fsync)
    outbox.open()

    def crashed(error: BaseException) -> None:
        outbox.crashed(error)
        if died is not None:
            died(error)

    publisher = tasks.spawn("outbox publisher", outbox.publish_forever(), died=crashed)
    try:
        yield outbox
        await outbox.flushed(flush_timeout_s)
    finally:
        publisher.cancel()
        await asyncio.wait({publisher})
        outbox.close()
