"""The stream that jobs wait in, and its consumers: one for each model."""

from __future__ import annotations

import json
from dataclasses import dataclass

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy, StreamConfig

from farthing_kit import nats as kit_nats
from farthing_scheduler.domain.subjects import JOBS, STREAM, job_subject, model_token

API_TIMEOUT_S = 2.0
# A model's consumer hands out at most this many jobs at once, over all workers.
MAX_ACK_PENDING = 4096
# Pull requests that may stand at a consumer: those of all workers together.
MAX_WAITING = 4096
# Deliveries are counted by the worker, which answers the caller when there were too many: a job that the server stopped
# delivering would be lost in silence.
UNLIMITED = -1


@dataclass(frozen=True, kw_only=True)
class JobsStream(kit_nats.Stream):
    """In memory, because a job lives no longer than its caller waits. Bounded for each model, so that a crowd before
    one does not shut out the others."""

    name: str = STREAM
    subjects: tuple[str, ...] = (f"{JOBS}.*",)
    memory: bool = True
    work_queue: bool = True
    atomic: bool = False
    max_messages_per_model: int = 512

    def config(self) -> StreamConfig:
        config = super().config()
        config.max_msgs_per_subject = self.max_messages_per_model
        config.discard_new_per_subject = True
        return config


class Topology:
    """Makes what the scheduler needs in JetStream. Safe to run from every replica at once, and again."""

    def __init__(self, client: Client, stream: JobsStream, *, ack_wait_s: float) -> None:
        self._client = client
        self._js = client.jetstream(timeout=API_TIMEOUT_S)
        self._stream = stream
        self._ack_wait_s = ack_wait_s
        self._created = ""

    async def ensure_stream(self) -> bool:
        """Make the stream if need be. Returns whether it is another one than the last time: then the jobs are gone that
        were in it. Raises QueueUnavailable."""
        try:
            await kit_nats.ensure_stream(self._js, self._stream)
            created = await self._creation()
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise kit_nats.queue_error(error) from error
        is_new = self._created not in ("", created)
        self._created = created
        return is_new

    async def ensure_consumer(self, model: str) -> None:
        """Make the consumer of one model if need be. Raises QueueUnavailable."""
        name = model_token(model)
        config = ConsumerConfig(
            name=name,
            durable_name=name,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._ack_wait_s,
            max_deliver=UNLIMITED,
            filter_subject=job_subject(model),
            max_ack_pending=MAX_ACK_PENDING,
            max_waiting=MAX_WAITING,
            mem_storage=True,
            num_replicas=self._stream.replicas,
        )
        try:
            await kit_nats.ensure_consumer(self._js, STREAM, config)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise kit_nats.queue_error(error) from error

    async def _creation(self) -> str:
        answer = await self._client.request(f"$JS.API.STREAM.INFO.{STREAM}", b"", timeout=API_TIMEOUT_S)
        return str(json.loads(answer.data).get("created", ""))
