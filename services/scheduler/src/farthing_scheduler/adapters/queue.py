"""The caller's side of the queue: jobs in, the queue's word on each, and how many wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from opentelemetry.trace import SpanKind

from farthing_kit import nats as kit_nats
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
    refused: Refused
    timer: asyncio.TimerHandle


class JetStreamQueue:
    """Publishes with the request id as message id, so that a job is queued once, and hears the acknowledgements on an
    inbox of its own: replies do not wait for them."""

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
            await self._publish(job, payload, refused)
        return life

    async def states(self) -> Sequence[QueueState]:
        try:
            consumers = await self._js.consumers_info(STREAM)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise errors.queue_unavailable("cannot be reached") from error
        states = [QueueState(model_of(c.name), c.num_pending or 0, c.num_ack_pending or 0) for c in consumers]
        return sorted((s for s in states if s.waiting or s.running), key=lambda state: state.model)

    async def _publish(self, job: Job, payload: bytes, refused: Refused) -> None:
        subject = job_subject(job.model)
        timer = asyncio.get_running_loop().call_later(self._within_s, self._unanswered, job.id)
        self._waiting[job.id] = _Waiting(refused, timer)
        attributes = _attributes(job, subject)
        with self._telemetry.span(SpanName.JOB_PUBLISH, kind=SpanKind.PRODUCER, attributes=attributes):
            headers = kit_nats.trace_headers()
            headers["Nats-Msg-Id"] = job.id
            try:
                await self._client.publish(subject, payload, reply=f"{self._inbox}.{job.id}", headers=headers)
            except (nats.errors.Error, OSError):
                self._answered(job.id, errors.queue_unavailable("cannot be reached"))

    async def _acknowledged(self, message: Msg) -> None:
        request_id = last_token(message.subject)
        self._answered(request_id, _error(message, request_id))

    def _answered(self, request_id: str, error: FarthingError | None) -> None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.timer.cancel()
            if error is not None:
                waiting.refused(error, is_certain=True)

    def _unanswered(self, request_id: str) -> None:
        waiting = self._waiting.pop(request_id, None)
        if waiting is not None:
            waiting.refused(errors.queue_unavailable("did not answer in time"), is_certain=False)


def _error(message: Msg, request_id: str) -> FarthingError | None:
    """What the queue's word means; None: it took the job."""
    if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
        return errors.queue_unavailable("is not ready")
    word: dict[str, Any] = json.loads(message.data)
    if "error" in word:
        error = word["error"]
        full = error.get("err_code") == _FULL
        return errors.queue_full(error.get("description", "")) if full else errors.queue_unavailable("refuses work")
    return errors.in_progress(request_id) if word.get("duplicate") else None


def _attributes(job: Job, subject: str) -> dict[str, Any]:
    return {
        Attr.MESSAGING_SYSTEM: "nats",
        Attr.MESSAGING_OPERATION: "send",
        Attr.MESSAGING_DESTINATION: subject,
        Attr.MESSAGING_MESSAGE_ID: job.id,
        Attr.REQUEST_ID: job.id,
    }
