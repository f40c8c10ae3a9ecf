"""The usage stream on JetStream: what was published is on disk, and is delivered until it is acknowledged."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import JetStreamContext
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from opentelemetry.trace import SpanKind

from farthing_accounting.adapters.nats.dead import DeadLetters
from farthing_accounting.adapters.nats.events import event_from
from farthing_accounting.adapters.nats.mending import Mending, Unreadable
from farthing_accounting.domain.usage import UsageEvent, Void
from farthing_kit import nats as kit_nats
from farthing_kit.clock import Clock
from farthing_kit.errors import QueueUnavailable
from farthing_kit.nats import Stream, ensure_consumer, ensure_stream, require_sync_always
from farthing_kit.telemetry import Attr, SpanName, Telemetry, tracing

STREAM: Final = "USAGE"
SUBJECTS: Final = "usage.*"
CONSUMER: Final = "accounting-ledger"


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamLimits:
    """Bounds of the streams, of a batch, and of waiting."""

    max_bytes: int = 512 * 1024 * 1024
    max_messages: int = 2_000_000
    max_message_bytes: int = 64 * 1024
    dead_bytes: int = 64 * 1024 * 1024
    dead_per_org: int = 256
    replicas: int = 1
    batch: int = 256
    batch_wait_s: float = 0.020
    patience_s: float = 0.2
    ack_wait_s: float = 30.0
    max_unacknowledged: int = 4_096
    # Once booked, events are only ballast: beyond this share of max_bytes, those that are acknowledged are removed.
    purge_above: float = 0.5
    housekeeping_s: float = 30.0


class UsageDelivery:
    """One message. Its span begins when it is taken and ends when it is done, inside the trace of its publisher."""

    def __init__(self, message: Msg, dead: DeadLetters, telemetry: Telemetry) -> None:
        self._message = message
        self._dead = dead
        self._telemetry = telemetry
        self._taken_ns = time.time_ns()
        self.event: UsageEvent | Void | None = None
        self.fault = ""
        mending = Mending(message.metadata.timestamp)
        try:
            self.event = event_from(message.data, mending)
        except Unreadable as error:
            self.fault = str(error)
        self.mended = mending.mended

    async def done(self) -> None:
        """Acknowledge. An acknowledgement that is lost means another delivery, which is harmless."""
        self._trace()
        await _tolerant(self._message.ack())

    async def renew(self) -> None:
        """Start the time for acknowledging anew."""
        await _tolerant(self._message.in_progress())

    async def bury(self, reason: str) -> bool:
        """Into the dead-letter stream, then acknowledge; False when that has no room for it."""
        kept = await self._dead.keep(self._message, reason)
        await self.done()
        return kept

    def _trace(self) -> None:
        """Without a trace of the publisher's there is none to add to."""
        if tracing.TRACEPARENT not in (self._message.headers or {}):
            return
        span = self._telemetry.tracer.start_span(
            SpanName.USAGE_FOLD,
            context=tracing.extract(self._message.headers),
            kind=SpanKind.CONSUMER,
            start_time=self._taken_ns,
        )
        if span.is_recording():
            span.set_attribute(Attr.MESSAGING_SYSTEM, "nats")
            span.set_attribute(Attr.MESSAGING_DESTINATION, STREAM)
            if isinstance(self.event, UsageEvent):
                span.set_attribute(Attr.REQUEST_ID, self.event.request_id)
                span.set_attribute(Attr.ORG, self.event.principal.org)
        span.end()


class JetStreamUsage:
    """The durable consumer that all replicas of accounting share."""

    def __init__(
        self, client: Client, monitor_url: str, telemetry: Telemetry, clock: Clock, limits: StreamLimits | None = None
    ) -> None:
        self._js = client.jetstream()
        self._monitor_url = monitor_url
        self._telemetry = telemetry
        self._clock = clock
        self._limits = limits or StreamLimits()
        self._dead = DeadLetters(
            self._js,
            telemetry,
            clock,
            max_bytes=self._limits.dead_bytes,
            per_org=self._limits.dead_per_org,
            replicas=self._limits.replicas,
        )
        self._subscription: JetStreamContext.PullSubscription | None = None

    async def open(self) -> None:
        """Make the streams and the consumer. Refuses a server that acknowledges what is not on disk."""
        limits = self._limits
        await require_sync_always(self._monitor_url)
        try:
            await ensure_stream(self._js, usage_stream(limits))
            await self._dead.open()
            await ensure_consumer(self._js, STREAM, _consumer(limits))
            self._subscription = await self._js.pull_subscribe_bind(
                CONSUMER, STREAM, pending_msgs_limit=limits.max_unacknowledged
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise kit_nats.queue_error(error) from error

    async def close(self) -> None:
        """Take no more. Otherwise the connection waits for a queue that `fetch` never marks as done (nats-py 2.16)."""
        if self._subscription is not None:
            await _tolerant(self._subscription.unsubscribe())
            self._subscription = None

    async def take(self) -> Sequence[UsageDelivery]:
        """Up to `batch` events: whatever has come within `batch_wait_s` of the first one."""
        limits = self._limits
        messages = await self._fetch(1, limits.patience_s)
        if messages and limits.batch > 1:
            messages += await self._fetch(limits.batch - 1, limits.batch_wait_s)
        return [UsageDelivery(message, self._dead, self._telemetry) for message in messages]

    async def keep_house(self) -> None:
        """For ever: make room by removing events that are booked, and say whether the stream can be reached."""
        while True:
            await self._clock.sleep(self._limits.housekeeping_s)
            try:
                await self.make_room()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._telemetry.log.warning("the usage stream cannot be looked after", exception=error, stream=STREAM)

    async def make_room(self) -> int:
        """Remove acknowledged events when the stream is more than `purge_above` full; how many bytes it has then."""
        info = await self._js.stream_info(STREAM)
        if info.state.bytes <= self._limits.purge_above * self._limits.max_bytes:
            return info.state.bytes
        consumer = await self._js.consumer_info(STREAM, CONSUMER)
        if consumer.ack_floor is None:
            return info.state.bytes
        await self._js.purge_stream(STREAM, seq=consumer.ack_floor.stream_seq + 1)
        return (await self._js.stream_info(STREAM)).state.bytes

    async def forget(self, org: str) -> None:
        """What is not booked yet stays until it is."""
        try:
            await self._dead.forget(org)
            consumer = await self._js.consumer_info(STREAM, CONSUMER)
            if consumer.ack_floor is not None and consumer.ack_floor.stream_seq:
                booked = consumer.ack_floor.stream_seq + 1
                await self._js.purge_stream(STREAM, seq=booked, subject=f"{SUBJECTS.removesuffix('*')}{org}")
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise kit_nats.queue_error(error) from error

    async def _fetch(self, most: int, wait_s: float) -> list[Msg]:
        try:
            if self._subscription is None:
                raise nats.errors.BadSubscriptionError
            return await self._subscription.fetch(most, timeout=wait_s)
        except (nats.errors.TimeoutError, TimeoutError):
            return []
        except nats.errors.Error as error:
            self._telemetry.log.warning("the usage stream cannot be read", exception=error, stream=STREAM)
            await self._clock.sleep(self._limits.patience_s)
            await self._reopen()
            return []

    async def _reopen(self) -> None:
        """The server may have lost the stream or the consumer."""
        try:
            await self.close()
            await self.open()
        except QueueUnavailable as error:
            self._telemetry.log.warning("the usage stream cannot be opened", exception=error, stream=STREAM)


def usage_stream(limits: StreamLimits) -> Stream:
    """Keeps events until they are booked and room is needed; full, it refuses new ones, and publishers keep them."""
    return Stream(
        name=STREAM,
        subjects=[SUBJECTS],
        max_bytes=limits.max_bytes,
        max_messages=limits.max_messages,
        max_message_bytes=limits.max_message_bytes,
        replicas=limits.replicas,
    )


def _consumer(limits: StreamLimits) -> ConsumerConfig:
    return ConsumerConfig(
        durable_name=CONSUMER,
        deliver_policy=DeliverPolicy.ALL,
        ack_policy=AckPolicy.EXPLICIT,
        ack_wait=limits.ack_wait_s,
        max_ack_pending=limits.max_unacknowledged,
        # Never given up by the server: what cannot be booked is buried by us, with a reason.
        max_deliver=-1,
    )


async def _tolerant(sending: object) -> None:
    """An acknowledgement that cannot be sent is not worth an error: the message comes again."""
    try:
        await sending  # type: ignore[misc]
    except (nats.errors.Error, OSError):
        return
