"""Dead letters: usage events that could not be booked, kept as they came, with the reason.

Each tenant has room for so many, so that nobody's can take the place of another's. What there is no room for is dropped
and counted: a full stream must not keep the events of others from being booked."""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import replace
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.msg import Msg
from nats.js import JetStreamContext

from farthing_kit import nats as kit_nats
from farthing_kit.clock import Clock
from farthing_kit.nats import STORE_FAILED, Stream, ensure_stream
from farthing_kit.telemetry import Telemetry

DEAD_STREAM: Final = "DLQ"
DEAD_SUBJECTS: Final = "dlq.>"
DEAD_SUBJECT: Final = "dlq.usage"
REASON_HEADER: Final = "Farthing-Reason"
# Whatever else keeps a letter from being stored: it is tried so often, each time the event is delivered again.
MAX_TRIES: Final = 5
LOG_INTERVAL_S: Final = 1.0


class DeadLetters:
    """The dead-letter stream. Its subject has the last part of the subject that an event came on: the organisation."""

    def __init__(
        self, js: JetStreamContext, telemetry: Telemetry, clock: Clock, *, max_bytes: int, per_org: int, replicas: int
    ) -> None:
        self._js = js
        self._log = telemetry.log
        self._clock = clock
        self._per_org = per_org
        self._stream = Stream(
            name=DEAD_STREAM,
            subjects=[DEAD_SUBJECTS],
            max_bytes=max_bytes,
            replicas=replicas,
            refuse_per_subject=True,
        )
        self._dropped = 0
        self._quiet_until_s = float("-inf")

    async def open(self) -> None:
        """Make the stream, or bring it to these limits. What is in it stays, also what an older release kept under one
        subject for all: no limit is set below what is there."""
        there = 0
        with contextlib.suppress(nats.js.errors.NotFoundError):
            state = (await self._js.stream_info(DEAD_STREAM, subjects_filter=DEAD_SUBJECTS)).state
            there = max((state.subjects or {}).values(), default=0)
        await ensure_stream(self._js, replace(self._stream, max_messages_per_subject=max(self._per_org, there)))

    async def keep(self, message: Msg, reason: str) -> bool:
        """Once per message of the usage stream. False: there is no room, and the log and a metric are all that is left
        of it. Raises QueueUnavailable where it may be tried again."""
        meta = message.metadata
        headers = {
            REASON_HEADER: reason,
            "Farthing-Subject": message.subject,
            "Nats-Msg-Id": f"{meta.stream}-{meta.sequence.stream}",
        }
        subject = f"{DEAD_SUBJECT}.{_org(message)}"
        try:
            await self._js.publish(subject, message.data, timeout=kit_nats.REQUEST_TIMEOUT_S, headers=headers)
        except nats.js.errors.APIError as error:
            if error.err_code != STORE_FAILED and meta.num_delivered < MAX_TRIES:
                raise kit_nats.queue_error(error) from error
        except (nats.errors.Error, TimeoutError, OSError) as error:
            if not isinstance(error, nats.js.errors.NoStreamResponseError) or meta.num_delivered < MAX_TRIES:
                raise kit_nats.queue_error(error) from error
        else:
            self._log.error("a usage event was put into the dead-letter stream", reason=reason, stream=DEAD_STREAM)
            return True
        self._drop(message, reason)
        return False

    async def forget(self, org: str) -> None:
        """Remove those of an organisation."""
        await self._js.purge_stream(DEAD_STREAM, subject=f"{DEAD_SUBJECT}.{org}")

    def _drop(self, message: Msg, reason: str) -> None:
        """One line a second, however many there are: it names one of them, and their number since the last line."""
        self._dropped += 1
        if self._clock.monotonic() < self._quiet_until_s:
            return
        self._log.error(
            "usage events were dropped: the dead-letter stream has no room; look for their cause, and empty it",
            stream=DEAD_STREAM,
            count=self._dropped,
            reason=reason,
            org=_org(message),
            sequence=message.metadata.sequence.stream,
            digest=hashlib.sha256(message.data).hexdigest(),
        )
        self._dropped = 0
        self._quiet_until_s = self._clock.monotonic() + LOG_INTERVAL_S


def _org(message: Msg) -> str:
    return message.subject.rpartition(".")[2]
