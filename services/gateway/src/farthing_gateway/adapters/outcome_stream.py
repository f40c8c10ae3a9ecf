"""What was foretold and what happened, in two JetStream streams."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Final

import nats.errors
import nats.js.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig

from farthing.gateway.v1.outcome_service_pb2 import ObservedOutcome
from farthing_gateway.domain.outcomes import Foretold, Observed, OutcomeSource
from farthing_gateway.outcome_wire import (
    foretold_from_message,
    foretold_to_message,
    observed_from_message,
    observed_to_message,
)
from farthing_kit import nats as kit_nats
from farthing_kit import tasks
from farthing_kit.errors import StoreUnavailable
from farthing_kit.journal import Record
from farthing_kit.record_batch import publish_batch
from farthing_kit.telemetry import Log, MetricName, Telemetry

# Apart, so that decisions, of which there is one for each request, never drive out outcomes, which are few.
ROUTING: Final = "ROUTING"
OUTCOMES: Final = "OUTCOMES"
DECIDED: Final = "routing.decided"
OUTCOME: Final = "routing.outcome"

# What is foretold is nobody's concern until its outcome is known: batches cost the disk one sync each.
GATHER_S: Final = 0.1
MAX_BATCH: Final = 128
TIMEOUT_S: Final = 2.0
BACKOFF_S: Final = (0.1, 5.0)
FLUSH_TIMEOUT_S: Final = 2.0
PAGE: Final = 256
# A record is a few hundred bytes; names of models and versions are bounded elsewhere.
MAX_RECORD_BYTES: Final = 8 * 1024
# Ids of our own in each batch: nothing is to be found a duplicate.
DUPLICATE_WINDOW_S: Final = 1.0

# JetStream's codes for "no message found" and "wrong last sequence".
_NO_MESSAGE: Final = 10037
_NOT_THE_FIRST: Final = 10071


@dataclass(frozen=True)
class Bounds:
    """How much is kept. Beyond it the oldest goes first."""

    pending: int
    decisions_bytes: int
    outcomes_bytes: int
    age_s: float

    def streams(self) -> tuple[kit_nats.Stream, kit_nats.Stream]:
        """Both streams, with one message for each request: a second report takes the place of the first."""
        return self._stream(ROUTING, DECIDED, self.decisions_bytes), self._stream(
            OUTCOMES, OUTCOME, self.outcomes_bytes
        )

    def _stream(self, name: str, subject: str, max_bytes: int) -> kit_nats.Stream:
        return kit_nats.Stream(
            name=name,
            subjects=[f"{subject}.*"],
            max_bytes=max_bytes,
            max_message_bytes=MAX_RECORD_BYTES,
            max_age_s=self.age_s,
            duplicate_window_s=DUPLICATE_WINDOW_S,
            discard_old=True,
            max_messages_per_subject=1,
        )


class JetStreamOutcomeBook:
    """The OutcomeBook port. What is foretold waits in memory, at most `pending` of it, until JetStream has it."""

    def __init__(self, client: Client, telemetry: Telemetry, bounds: Bounds) -> None:
        self._client = client
        self._js: JetStreamContext = client.jetstream()
        self._log: Log = telemetry.log
        self._bounds = bounds
        self._pending: dict[str, Foretold] = {}
        self._work = asyncio.Event()
        self._empty = asyncio.Event()
        self._empty.set()
        self.made = False
        self._dropped = telemetry.metrics.counter(
            MetricName.FORETOLD_DROPPED, "Decisions whose outcome can never be told, since there was no room for them."
        )

    @property
    def pending(self) -> int:
        """How much waits to be written down."""
        return len(self._pending)

    def foretell(self, foretold: Foretold) -> None:
        if len(self._pending) >= self._bounds.pending:
            self._dropped.inc()
            return
        self._pending[foretold.request_id] = foretold
        self._work.set()
        self._empty.clear()

    async def find(self, request_id: str) -> Foretold | None:
        if request_id in self._pending:
            return self._pending[request_id]
        with _as_outage():
            try:
                found = await self._js.get_last_msg(ROUTING, f"{DECIDED}.{request_id}")
                return foretold_from_message(ObservedOutcome.FromString(found.data or b""))
            except nats.js.errors.APIError as error:
                if error.err_code == _NO_MESSAGE:
                    return None
                raise
            except (DecodeError, ValueError):  # written by a newer gateway
                return None

    async def write(self, observed: Observed) -> bool:
        subject = f"{OUTCOME}.{observed.foretold.request_id}"
        first = observed.source is OutcomeSource.SHADOW
        headers = {"Nats-Expected-Last-Subject-Sequence": "0"} if first else None
        payload = observed_to_message(observed).SerializeToString()
        with _as_outage():
            try:
                await self._js.publish(subject, payload, timeout=TIMEOUT_S, headers=headers)
            except nats.js.errors.APIError as error:
                if first and error.err_code == _NOT_THE_FIRST:
                    return False
                raise
        return True

    async def observed(self) -> AsyncGenerator[Observed]:
        with _as_outage():
            async for payload in self._payloads():
                try:
                    yield observed_from_message(ObservedOutcome.FromString(payload))
                except (DecodeError, ValueError):
                    self._log.warning("an outcome of another version was left out", stream=OUTCOMES)

    async def _payloads(self) -> AsyncGenerator[bytes]:
        """What the stream holds now, in its order. A report that comes meanwhile moves to the end."""
        config = ConsumerConfig(ack_policy=AckPolicy.NONE, inactive_threshold=30.0, mem_storage=True)
        line = await self._js.pull_subscribe(f"{OUTCOME}.*", stream=OUTCOMES, config=config)
        try:
            left = (await line.consumer_info()).num_pending or 0
            while left:
                for message in await line.fetch(min(PAGE, left), timeout=TIMEOUT_S):
                    yield message.data
                    left = message.metadata.num_pending
        finally:
            await line.unsubscribe()

    async def try_to_begin(self) -> None:
        """Make the streams, so that the first report finds them; where that cannot be now, it is tried on later."""
        try:
            await self._make_streams()
            self.made = True
        except (nats.errors.Error, OSError, TimeoutError) as error:
            self._log.warning("the streams of outcomes cannot be made yet", kind=type(error).__name__)

    async def publish_forever(self) -> None:
        """Make the streams, then keep writing down what was foretold, until cancelled."""
        backoff_s = BACKOFF_S[0]
        while True:
            try:
                if not self.made:
                    await self._make_streams()
                    self.made = True
                await self._work.wait()
                if len(self._pending) < MAX_BATCH:
                    await asyncio.sleep(GATHER_S)
                await self._publish(list(islice(self._pending.values(), MAX_BATCH)))
                backoff_s = BACKOFF_S[0]
            except (nats.errors.Error, OSError, TimeoutError) as error:
                self._log.warning("JetStream takes no decisions; trying on", kind=type(error).__name__)
                self.made = False  # they may be gone
                await asyncio.sleep(backoff_s)
                backoff_s = min(backoff_s * 2, BACKOFF_S[1])

    async def flushed(self) -> None:
        """Wait until JetStream has everything, for a moment."""
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                await self._empty.wait()
        except TimeoutError:
            self._dropped.inc(len(self._pending))

    async def _make_streams(self) -> None:
        for stream in self._bounds.streams():
            await kit_nats.ensure_stream(self._js, stream)

    async def _publish(self, batch: list[Foretold]) -> None:
        records = [_record(told) for told in batch]
        if len(records) < 2 or await publish_batch(self._client, records) is not None:
            for record in records:
                await self._js.publish(record.subject, record.payload, timeout=TIMEOUT_S)
        for told in batch:
            if self._pending.get(told.request_id) is told:
                del self._pending[told.request_id]
        if not self._pending:
            self._work.clear()
            self._empty.set()


@asynccontextmanager
async def open_outcomes(
    client: Client, telemetry: Telemetry, bounds: Bounds, *, died: tasks.Died | None = None
) -> AsyncIterator[JetStreamOutcomeBook]:
    """The book, and the task that writes into it; at the end what is pending is written first. died: hears of the
    task's death."""
    book = JetStreamOutcomeBook(client, telemetry, bounds)
    await book.try_to_begin()
    publisher = tasks.spawn("outcomes publisher", book.publish_forever(), died=died)
    try:
        yield book
        await book.flushed()
    finally:
        publisher.cancel()
        await asyncio.wait({publisher})


def _record(told: Foretold) -> Record:
    payload = foretold_to_message(told).SerializeToString()
    return Record(secrets.token_hex(8), f"{DECIDED}.{told.request_id}", payload)


@contextmanager
def _as_outage() -> Iterator[None]:
    try:
        yield
    except (nats.errors.Error, OSError, TimeoutError) as error:
        raise StoreUnavailable(
            "outcomes cannot be read or written at present; try again shortly",
            metadata={"store": "jetstream"},
            retry_after_s=0.5,
        ) from error
