"""The caller's side of the queue: jobs in, the queue's word on each, and how many wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind

from farthing_kit import nats as kit_nats
from farthing_kit import tasks
from farthing_kit.context import ContextSigner
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import Attr, SpanName, Telemetry
from farthing_scheduler.adapters.stream import API_TIMEOUT_S
from farthing_scheduler.domain import errors
from farthing_scheduler.domain.job import Job, QueueState
from farthing_scheduler.domain.subjects import STREAM, job_subject, last_token, model_of
from farthing_scheduler.ports import Refused
from farthing_scheduler.wire import job_to_bytes

# Bytes that a message needs beside its payload: subject, reply subject, headers.
OVERHEAD_BYTES: Final = 1024
_FULL: Final = 10077  # JetStream: a bound of the stream is reached
_NO_RESPONDERS: Final = "503"


def connection_life(client: Client) -> int:
    """How often the connection came back: what a server in memory knew of an earlier life may be gone."""
    return int(client.stats["reconnects"])


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A job that the queue has not yet said anything about, as it was sent."""

    job: Job
    payload: bytes
    refused: Refused
    timer: asyncio.TimerHandle


class JetStreamQueue:
    """Publishes, and hears the acknowledgements on an inbox of its own: replies do not wait for them.

    The message id is the request id, so that of two jobs of one request the queue refuses the second, and says which
    message the first one is. While that message is in the stream, the first job waits or runs: the second is
    IN_PROGRESS. When it is gone, the first job has ended, and the second is published under an id that follows from
    both: of several that are at this point together, the queue again takes one."""

    def __init__(
        self, client: Client, *, signer: ContextSigner, telemetry: Telemetry, acknowledge_within_s: float
    ) -> None:
        self._client = client
        self._js = client.jetstream(timeout=API_TIMEOUT_S)
        self._signer = signer
        self._telemetry = telemetry
        self._within_s = acknowledge_within_s
        self._inbox = client.new_inbox()
        self._waiting: dict[str, _Waiting] = {}

    async def open(self) -> None:
        """Begin to hear acknowledgements."""
        await kit_nats.subscribe(self._client, self._telemetry, f"{self._inbox}.*", self._acknowledged)

    async def submit(self, job: Job, refused: Refused) -> int:
        life = connection_life(self._client)
        payload = job_to_bytes(job, self._signer)
        limit = self._client.max_payload - OVERHEAD_BYTES
        if len(payload) > limit:
            refused(errors.prompt_too_large(len(payload), limit), is_certain=True)
        elif not self._client.is_connected:
            refused(errors.queue_unavailable("cannot be reached"), is_certain=True)
        else:
            timer = asyncio.get_running_loop().call_later(self._within_s, self._unanswered, job.id)
            self._waiting[job.id] = waiting = _Waiting(job, payload, refused, timer)
            await self._publish(waiting, job.request_id)
        return life

    async def states(self) -> Sequence[QueueState]:
        try:
            consumers = await self._js.consumers_info(STREAM)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise errors.queue_unavailable("cannot be reached") from error
        states = [QueueState(model_of(c.name), c.num_pending or 0, c.num_ack_pending or 0) for c in consumers]
        return sorted((s for s in states if s.waiting or s.running), key=lambda state: state.model)

    async def _publish(self, waiting: _Waiting, message_id: str) -> None:
        job, subject = waiting.job, job_subject(waiting.job.model)
        attributes = _attributes(job, subject)
        with self._telemetry.span(SpanName.JOB_PUBLISH, kind=SpanKind.PRODUCER, attributes=attributes):
            headers = kit_nats.trace_headers()
            headers["Nats-Msg-Id"] = message_id
            reply = f"{self._inbox}.{job.id}"
            try:
                await self._client.publish(subject, waiting.payload, reply=reply, headers=headers)
            except (nats.errors.Error, OSError):
                self._answered(job.id, errors.queue_unavailable("cannot be reached"))

    async def _acknowledged(self, message: Msg) -> None:
        job_id = last_token(message.subject)
        waiting = self._waiting.get(job_id)
        if waiting is None:
            return
        word = _word(message)
        if isinstance(word, FarthingError) or not word.get("duplicate"):
            self._answered(job_id, word if isinstance(word, FarthingError) else None)
            return
        _ = tasks.spawn("earlier job", self._after(waiting, int(word["seq"])))

    async def _after(self, waiting: _Waiting, earlier: int) -> None:
        """Publish once more if the request's earlier job, which is this message of the stream, has ended."""
        job = waiting.job
        try:
            await self._js.get_msg(STREAM, seq=earlier)
        except nats.js.errors.NotFoundError:
            if job.id in self._waiting:
                await self._publish(waiting, f"{job.request_id}:{earlier}")
        except (nats.errors.Error, TimeoutError, OSError):
            self._answered(job.id, errors.queue_unavailable("cannot be reached"))
        else:
            self._answered(job.id, errors.in_progress(job.request_id))

    def _answered(self, job_id: str, error: FarthingError | None) -> None:
        waiting = self._waiting.pop(job_id, None)
        if waiting is not None:
            waiting.timer.cancel()
            if error is not None:
                waiting.refused(error, is_certain=True)

    def _unanswered(self, job_id: str) -> None:
        waiting = self._waiting.pop(job_id, None)
        if waiting is not None:
            waiting.refused(errors.queue_silent("did not answer in time"), is_certain=False)


def _word(message: Msg) -> dict[str, Any] | FarthingError:
    """What the queue says of a job that it took, or has already; or why it takes none."""
    if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
        return errors.queue_unavailable("is not ready")
    word: dict[str, Any] = json.loads(message.data)
    if "error" in word:
        error = word["error"]
        full = error.get("err_code") == _FULL
        return errors.queue_full(error.get("description", "")) if full else errors.queue_unavailable("refuses work")
    return word


def _attributes(job: Job, subject: str) -> dict[str, Any]:
    return {
        Attr.MESSAGING_SYSTEM: "nats",
        Attr.MESSAGING_OPERATION: "send",
        Attr.MESSAGING_DESTINATION: subject,
        Attr.MESSAGING_MESSAGE_ID: job.id,
        Attr.REQUEST_ID: job.request_id,
    }
