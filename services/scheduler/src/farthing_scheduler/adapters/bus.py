"""Core NATS: replies to callers, questions to their replicas, and the word that a job shall end."""

from __future__ import annotations

from typing import Final, Protocol

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from farthing.scheduler.v1.job_pb2 import JobCancel, JobPermit
from farthing_kit import nats as kit_nats
from farthing_kit.telemetry import Telemetry, logs
from farthing_scheduler.domain.job import Reply
from farthing_scheduler.domain.subjects import CANCELS, REPLIES, cancel_subject, last_token
from farthing_scheduler.wire import reply_from_bytes, reply_to_bytes

_NO_RESPONDERS: Final = "503"

_log = logs.get("scheduler.bus")


class Streams(Protocol):
    """Who hears replies: the streams that a replica holds."""

    def put(self, job_id: str, reply: Reply) -> None: ...

    def permit(self, job_id: str, attempt: int) -> bool: ...


class Jobs(Protocol):
    """Who hears cancellations: a worker."""

    def cancel(self, job_id: str, below_attempt: int, discard_usage: bool) -> None: ...

    def unheard(self, job_id: str) -> None: ...


class Bus:
    """One per process. Sending waits for nothing; what cannot be sent is lost, and found out by number. A reply to a
    stream of this very process takes the short way, which saves a millisecond for each request."""

    def __init__(self, client: Client, telemetry: Telemetry, *, ask_timeout_s: float) -> None:
        self._client = client
        self._telemetry = telemetry
        self._ask_timeout_s = ask_timeout_s
        # The server says "no responders" on the reply subject of a message that nobody listens to.
        self._unheard = client.new_inbox()
        self._own: Streams | None = None
        self._own_prefix = ""

    async def hear_replies(self, instance: str, streams: Streams) -> None:
        """Give the replies to this replica's streams: one subscription for all of them."""
        self._own, self._own_prefix = streams, f"{REPLIES}.{instance}."

        async def handle(message: Msg) -> None:
            job_id, reply = last_token(message.subject), reply_from_bytes(message.data)
            if message.reply and reply.sequence == 0:
                permit = JobPermit(granted=streams.permit(job_id, reply.attempt))
                await message.respond(permit.SerializeToString())
            else:
                streams.put(job_id, reply)

        await kit_nats.subscribe(self._client, self._telemetry, f"{REPLIES}.{instance}.*", handle)

    async def hear_cancels(self, jobs: Jobs) -> None:
        """Tell a worker of jobs that shall end, and of replies that nobody heard."""

        async def cancelled(message: Msg) -> None:
            word = JobCancel.FromString(message.data)
            jobs.cancel(last_token(message.subject), word.below_attempt, word.discard_usage)

        async def unheard(message: Msg) -> None:
            if message.headers and message.headers.get("Status") == _NO_RESPONDERS:
                jobs.unheard(last_token(message.subject))

        await kit_nats.subscribe(self._client, self._telemetry, f"{CANCELS}.*", cancelled)
        await kit_nats.subscribe(self._client, self._telemetry, f"{self._unheard}.*", unheard)

    async def send(self, subject: str, reply: Reply, *, is_watched: bool = False) -> None:
        if self._own is not None and subject.startswith(self._own_prefix):
            self._own.put(last_token(subject), reply)
            return
        answer_to = f"{self._unheard}.{last_token(subject)}" if is_watched else ""
        await self._publish(subject, reply_to_bytes(reply), answer_to)

    async def ask(self, subject: str, reply: Reply) -> bool | None:
        if self._own is not None and subject.startswith(self._own_prefix):
            return self._own.permit(last_token(subject), reply.attempt)
        try:
            answer = await self._client.request(subject, reply_to_bytes(reply), timeout=self._ask_timeout_s)
        except nats.errors.NoRespondersError:
            return False
        except (nats.errors.Error, TimeoutError, OSError):
            return None
        return JobPermit.FromString(answer.data).granted

    async def cancel(self, job_id: str, *, below_attempt: int = 0, discard_usage: bool = False) -> None:
        word = JobCancel(below_attempt=below_attempt, discard_usage=discard_usage)
        await self._publish(cancel_subject(job_id), word.SerializeToString())

    async def _publish(self, subject: str, payload: bytes, answer_to: str = "") -> None:
        try:
            await self._client.publish(subject, payload, reply=answer_to)
        except (nats.errors.Error, OSError) as error:
            _log.warning("a message to another part of the scheduler was lost", kind=type(error).__name__)
