"""NATS for services: a connection that comes back by itself, streams as declared, traces that cross it."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import nats
import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js import JetStreamContext
from nats.js.api import ConsumerConfig, DiscardPolicy, PubAck, RetentionPolicy, StorageType, StreamConfig
from opentelemetry.trace import SpanKind

from farthing_kit.errors import MessageTooLarge, QueueUnavailable
from farthing_kit.tasks import Died, cancelled_from_outside
from farthing_kit.telemetry import Attr, Telemetry, logs, tracing
from farthing_kit.telemetry.names import MetricName

# At the start: services of a mesh may be started in any order.
START_TIMEOUT_S: Final = 60.0
START_SILENCE_S: Final = 2.0
CONNECT_TIMEOUT_S: Final = 5.0
RECONNECT_WAIT_S: Final = 0.2
PING_INTERVAL_S: Final = 10
MAX_PINGS_OUT: Final = 2
DRAIN_TIMEOUT_S: Final = 5
FLUSH_TIMEOUT_S: Final = 2.0
# Bytes kept while disconnected; beyond it a publish fails at once instead of filling memory.
PENDING_BYTES: Final = 2 * 1024 * 1024
REQUEST_TIMEOUT_S: Final = 2.0
MONITOR_TIMEOUT_S: Final = 2.0
CHUNK_MESSAGES: Final = 65_536

# Of a message for its headers: the server counts them in its max_payload, nats-py does not, and what is larger ends the
# connection for good.
HEADER_BYTES: Final = 1024

_log = logs.get("kit.nats")
Handler = Callable[[Msg], Awaitable[None]]


class ConnectionOver(Exception):
    """The connection was closed, and not by its owner."""


def payload_limit(client: Client) -> int:
    """How long a payload may be, so that it and its headers are no more than the server takes."""
    return client.max_payload - HEADER_BYTES


def _require_fit(client: Client, payload: bytes) -> None:
    if len(payload) > payload_limit(client):
        raise MessageTooLarge(f"the message has {len(payload)} bytes; NATS takes {payload_limit(client)}")


@asynccontextmanager
async def connect(
    url: str,
    *,
    name: str,
    telemetry: Telemetry | None = None,
    connect_timeout_s: float = START_TIMEOUT_S,
    died: Died | None = None,
) -> AsyncIterator[Client]:
    """A connection that reconnects for ever and is drained at the end.

    The first time it waits for a server, `connect_timeout_s` at most, then raises QueueUnavailable.
    url: one or several servers, with commas. name: shown by the server, such as "scheduler".
    died: hears when the connection is over for good, since the server called it wrong: nats-py then closes the client,
    which nothing opens again. Process.crash.
    """
    made = telemetry or Telemetry(name)
    client = Client()
    ending = False

    async def closed() -> None:
        if not ending:
            _log.error("the connection to NATS is over for good", name=name)
            if died is not None:
                died(ConnectionOver(name))

    shown = _without_secrets(url)
    loop = asyncio.get_running_loop()
    notice = loop.call_later(START_SILENCE_S, lambda: _log.warning("waiting for NATS", address=shown))
    try:
        async with asyncio.timeout(connect_timeout_s):
            await client.connect(**_connect_options(url, name, made), closed_cb=closed)
    except (OSError, TimeoutError, nats.errors.Error) as error:
        ending = True
        await client.close()
        raise QueueUnavailable(f"NATS cannot be reached at {shown}; start it or check the address") from error
    finally:
        notice.cancel()
    try:
        yield client
    finally:
        ending = True
        await _drain(client)


def _without_secrets(url: str) -> str:
    """Addresses without the user and password that may stand before them."""
    return ",".join(f"nats://{part.strip().rpartition('@')[2].removeprefix('nats://')}" for part in url.split(","))


def _connect_options(url: str, name: str, telemetry: Telemetry) -> dict[str, Any]:
    reconnects = _reconnects(telemetry)

    async def disconnected() -> None:
        _log.warning("disconnected from NATS", name=name)

    async def reconnected() -> None:
        reconnects.inc()
        _log.info("reconnected to NATS", name=name)

    async def failed(error: Exception) -> None:
        # Only the kind: nats-py quotes subjects and headers.
        if not isinstance(error, nats.errors.UnexpectedEOF | OSError):
            _log.warning("NATS error", name=name, kind=type(error).__name__)

    return {
        "servers": [part.strip() for part in url.split(",") if part.strip()],
        "name": f"farthing-{name}",
        "allow_reconnect": True,
        "max_reconnect_attempts": -1,
        "reconnect_time_wait": RECONNECT_WAIT_S,
        "connect_timeout": CONNECT_TIMEOUT_S,
        "ping_interval": PING_INTERVAL_S,
        "max_outstanding_pings": MAX_PINGS_OUT,
        "drain_timeout": DRAIN_TIMEOUT_S,
        "pending_size": PENDING_BYTES,
        "disconnected_cb": disconnected,
        "reconnected_cb": reconnected,
        "error_cb": failed,
    }


def _reconnects(telemetry: Telemetry) -> Any:
    return telemetry.metrics.counter(MetricName.NATS_RECONNECTS, "Times the connection to NATS came back.")


async def _drain(client: Client) -> None:
    if client.is_closed:
        return
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S + 1):
            if client.is_connected:
                await client.drain()
            else:
                await client.close()
    except (TimeoutError, nats.errors.Error) as error:
        _log.warning("NATS did not drain", exception=error)
        await client.close()


async def require_sync_always(monitor_url: str) -> None:
    """Refuse a server that may acknowledge what is not on disk yet (its default). Asks /varz of the monitoring port."""

    def ask() -> dict[str, Any]:
        with urllib.request.urlopen(f"{monitor_url.rstrip('/')}/varz", timeout=MONITOR_TIMEOUT_S) as answer:
            found: dict[str, Any] = json.load(answer)
            return found

    try:
        varz = await asyncio.to_thread(ask)
    except (OSError, ValueError) as error:
        raise QueueUnavailable(f"the NATS monitor cannot be read at {monitor_url}; give its http_port") from error
    if not varz.get("jetstream", {}).get("config", {}).get("sync_always", False):
        raise QueueUnavailable(
            "NATS may acknowledge messages that are not on disk; set `sync_interval: always` in its jetstream block"
        )


@dataclass(frozen=True, kw_only=True)
class Stream:
    """A stream as a service needs it. Every limit is stated; a full stream refuses instead of losing the oldest.

    atomic: batches may be published as one (the outbox does); a batch is synced once.
    discard_old: a full stream loses the oldest instead: for what helps while it is there, and is in no book.
    max_messages_per_subject: a newer message takes the place of an older one of its subject; 0 keeps all.
    refuse_per_subject: a newer message of a subject that has its most is refused instead.
    """

    name: str
    subjects: Sequence[str]
    max_bytes: int
    max_messages: int = 1_000_000
    max_message_bytes: int = 1024 * 1024
    max_age_s: float = 0
    memory: bool = False
    work_queue: bool = False
    duplicate_window_s: float = 120.0
    replicas: int = 1
    atomic: bool = True
    discard_old: bool = False
    max_messages_per_subject: int = 0
    refuse_per_subject: bool = False

    def config(self) -> StreamConfig:
        """For JetStream."""
        return StreamConfig(
            name=self.name,
            subjects=list(self.subjects),
            retention=RetentionPolicy.WORK_QUEUE if self.work_queue else RetentionPolicy.LIMITS,
            storage=StorageType.MEMORY if self.memory else StorageType.FILE,
            discard=DiscardPolicy.OLD if self.discard_old else DiscardPolicy.NEW,
            max_msgs_per_subject=self.max_messages_per_subject or -1,
            discard_new_per_subject=self.refuse_per_subject,
            max_bytes=self.max_bytes,
            max_msgs=self.max_messages,
            max_msg_size=self.max_message_bytes,
            max_age=self.max_age_s,
            duplicate_window=self.duplicate_window_s,
            num_replicas=self.replicas,
            allow_atomic=self.atomic,
        )


async def ensure_stream(js: JetStreamContext, stream: Stream) -> None:
    """Make the stream, or bring one that exists to these limits. Safe to run from every replica at once."""
    config = stream.config()
    try:
        await js.add_stream(config)
    except nats.js.errors.BadRequestError as error:
        if error.err_code != _STREAM_EXISTS:
            raise
        await js.update_stream(config)


# JetStream's codes for "stream name already in use with a different configuration", and for a message that a stream
# does not take, because it is full, or has as many of the subject as it may.
_STREAM_EXISTS: Final = 10058
STORE_FAILED: Final = 10077


async def ensure_consumer(js: JetStreamContext, stream: str, config: ConsumerConfig) -> None:
    """Make a durable consumer, or bring one that exists to this configuration; its limits must be stated."""
    if config.durable_name is None:
        raise ValueError("a consumer that several replicas share needs a durable_name")
    if not config.max_ack_pending or not config.max_deliver:
        raise ValueError(f"the consumer {config.durable_name} needs max_ack_pending and max_deliver")
    await js.add_consumer(stream, config)


async def publish(
    js: JetStreamContext,
    telemetry: Telemetry,
    subject: str,
    payload: bytes,
    *,
    message_id: str | None = None,
    timeout_s: float = REQUEST_TIMEOUT_S,
) -> PubAck:
    """Publish to JetStream with the trace in the headers; returns once it is stored. QueueUnavailable otherwise;
    MessageTooLarge for what the server would not take."""
    _require_fit(js._nc, payload)
    with telemetry.span(
        "publish", kind=SpanKind.PRODUCER, attributes={Attr.MESSAGING_SYSTEM: "nats", Attr.MESSAGING_OPERATION: "send"}
    ):
        headers = trace_headers()
        if message_id is not None:
            headers["Nats-Msg-Id"] = message_id
        try:
            return await js.publish(subject, payload, timeout=timeout_s, headers=headers or None)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise queue_error(error) from error


def queue_error(error: BaseException) -> QueueUnavailable:
    """What a failure of NATS means for a caller."""
    if isinstance(error, nats.js.errors.APIError):
        return QueueUnavailable(
            "the queue is full or refuses; try again later with the same id",
            metadata={"err_code": str(error.err_code or error.code)},
            retry_after_s=1.0,
        )
    return QueueUnavailable("the queue cannot be reached; try again shortly with the same id", retry_after_s=0.5)


async def request(client: Client, subject: str, payload: bytes, *, timeout_s: float = REQUEST_TIMEOUT_S) -> Msg:
    """Ask on core NATS, with the trace in the headers. QueueUnavailable if nobody answers in time; MessageTooLarge for
    what the server would not take."""
    _require_fit(client, payload)
    try:
        return await client.request(subject, payload, timeout=timeout_s, headers=trace_headers() or None)
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise queue_error(error) from error


def trace_headers() -> dict[str, str]:
    """The current trace as headers of a message."""
    headers: dict[str, str] = {}
    tracing.inject(headers)
    return headers


async def subscribe(
    client: Client,
    telemetry: Telemetry,
    subject: str,
    handle: Handler,
    *,
    span: str | None = None,
    queue: str = "",
    max_messages: int = CHUNK_MESSAGES,
) -> Subscription:
    """Subscribe on core NATS. With `span`, each message is handled in a span of that name inside the sender's trace.

    An exception of `handle` is logged and the next message taken. With more than `max_messages` waiting, the newest are
    dropped, and the error is logged as a slow consumer.
    """

    async def guarded(message: Msg) -> None:
        try:
            if span is None:
                await handle(message)
                return
            parent = tracing.extract(message.headers)
            with telemetry.span(span, kind=SpanKind.CONSUMER, parent=parent):
                await handle(message)
        except asyncio.CancelledError as error:
            if cancelled_from_outside():
                raise
            _log.error("a message could not be handled", exception=error)  # let through, it would end the subscription
        except Exception as error:
            _log.error("a message could not be handled", exception=error)

    return await client.subscribe(subject, queue=queue, cb=guarded, pending_msgs_limit=max_messages)
