"""The worker's side of the queue: a standing request for as many jobs as there are free slots.

nats-py's `fetch` asks anew for each batch, with a probe before it, and `consume` it does not have. Here a pull request
stands at the server at all times, so that a job is delivered the moment it is published, and each slot that becomes
free is asked for at once.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

import nats.errors
from google.protobuf.message import DecodeError
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from farthing_kit import nats as kit_nats
from farthing_kit.clock import Clock
from farthing_kit.context import ContextSigner
from farthing_kit.errors import FarthingError
from farthing_kit.telemetry import Telemetry, logs
from farthing_scheduler.adapters.stream import Topology
from farthing_scheduler.domain.job import Job
from farthing_scheduler.domain.slots import Slots
from farthing_scheduler.domain.subjects import STREAM, model_token
from farthing_scheduler.ports import Delivery
from farthing_scheduler.wire import job_from_bytes

# The server ends each request after a while; one that it has not ended after so many times that long does not stand.
SILENT_PERIODS: Final = 3
_NANOS: Final = 1_000_000_000
_EXPIRED: Final = "408"

_log = logs.get("scheduler.pull")


class JetStreamDelivery:
    """One delivery. Its words to the queue may be lost; then the job is delivered again, which the worker can stand."""

    def __init__(self, message: Msg, job: Job, pull: _Pull) -> None:
        self._message = message
        self.job = job
        self.pull = pull
        self.attempt = message.metadata.num_delivered
        self.headers: Mapping[str, str] = message.headers or {}

    async def working(self) -> None:
        await self._say(b"+WPI")

    async def done(self) -> None:
        await self._say(b"+ACK")

    async def hand_over(self) -> None:
        await self._say(b"-NAK")

    async def _say(self, word: bytes) -> None:
        try:
            await self.pull.client.publish(self._message.reply, word)
        except (nats.errors.Error, OSError) as error:
            _log.warning("the queue could not be told about a job", kind=type(error).__name__)


class PullSource:
    """A standing request for each model. Jobs go to `take` as they come; it must not block.

    A worker that froze keeps its requests at the server, and would be given jobs. So they expire soon (`expires_s`,
    less than the time after which its jobs go to another worker), and are put up again.
    """

    def __init__(
        self,
        client: Client,
        topology: Topology,
        *,
        signer: ContextSigner,
        telemetry: Telemetry,
        clock: Clock,
        slots_per_model: int,
        max_models: int,
        expires_s: float,
    ) -> None:
        self._client = client
        self._topology = topology
        self._signer = signer
        self._telemetry = telemetry
        self._clock = clock
        self._slots_per_model = slots_per_model
        self._max_models = max_models
        self._expires_s = expires_s
        self._pulls: dict[str, _Pull] = {}
        self._is_stopped = False
        self._maintaining = asyncio.Lock()
        self.take: Callable[[Delivery], None] = _nobody

    async def serve(self, models: Sequence[str]) -> None:
        for model in models:
            if model not in self._pulls and len(self._pulls) < self._max_models and not self._is_stopped:
                slots = Slots(self._slots_per_model)
                self._pulls[model] = _Pull(self._client, model, slots, self._clock, self._expires_s)
        await self.maintain()

    async def maintain(self) -> None:
        async with self._maintaining:
            for pull in list(self._pulls.values()):
                if pull.is_down() and not self._is_stopped:
                    await self._put_up(pull)

    async def reconnected(self) -> None:
        """The connection was lost and is back: no request stands any more."""
        for pull in self._pulls.values():
            pull.stands = False
        await self.maintain()

    async def release(self, delivery: Delivery) -> None:
        assert isinstance(delivery, JetStreamDelivery)
        delivery.pull.slots.release()
        await delivery.pull.ask()

    async def stop(self) -> None:
        self._is_stopped = True
        for pull in self._pulls.values():
            await pull.take_down()

    async def _put_up(self, pull: _Pull) -> None:
        try:
            await self._topology.ensure_consumer(pull.model)
            await pull.put_up(self._telemetry, self._received)
        except FarthingError as error:
            _log.warning("jobs cannot be asked for; trying again", model=pull.model, reason=error.reason_name)

    async def _received(self, pull: _Pull, message: Msg) -> None:
        pull.heard_s = self._clock.monotonic()
        status = (message.headers or {}).get("Status")
        if status is not None:
            await pull.status(status, message.headers or {})
            return
        pull.slots.fill()
        try:
            job = job_from_bytes(message.data, self._signer)
        except (DecodeError, FarthingError) as error:
            _log.error("a message of the queue is no job of this mesh; dropped", kind=type(error).__name__)
            await message.term()
            pull.slots.release()
        else:
            self.take(JetStreamDelivery(message, job, pull))
        await pull.ask()


Receive = Callable[["_Pull", Msg], Awaitable[None]]


class _Pull:
    """The standing request for one model."""

    def __init__(self, client: Client, model: str, slots: Slots, clock: Clock, expires_s: float) -> None:
        self.client = client
        self.model = model
        self.slots = slots
        self.stands = False
        self.heard_s = 0.0
        self._clock = clock
        self._expires_s = expires_s
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{model_token(model)}"
        self._inbox = ""
        self._subscription: Subscription | None = None

    def is_down(self) -> bool:
        """Whether it has to be put up: it never stood, an error ended it, or it has fallen silent."""
        silent_s = self._clock.monotonic() - self.heard_s
        return not self.stands or (self.slots.asked > 0 and silent_s > SILENT_PERIODS * self._expires_s)

    async def put_up(self, telemetry: Telemetry, received: Receive) -> None:
        """Ask on a fresh inbox, so that an older request, if one is left, is not filled any more."""
        await self.take_down()
        self._inbox = self.client.new_inbox()

        async def handle(message: Msg) -> None:
            await received(self, message)

        self._subscription = await kit_nats.subscribe(self.client, telemetry, self._inbox, handle)
        self.heard_s = self._clock.monotonic()
        self.stands = True
        await self.ask()

    async def take_down(self) -> None:
        """Ask for nothing more. The server drops a request whose inbox nobody listens to."""
        self.stands = False
        self.slots.forget()
        subscription, self._subscription = self._subscription, None
        if subscription is not None and not self.client.is_closed:
            await subscription.unsubscribe()

    async def ask(self) -> None:
        """Ask for free slots, where it is worth a request."""
        count = self.slots.ask() if self.stands else 0
        if count == 0:
            return
        self.heard_s = self._clock.monotonic()
        request = {"batch": count, "expires": int(self._expires_s * _NANOS)}
        try:
            await self.client.publish(self._subject, json.dumps(request).encode(), reply=self._inbox)
        except (nats.errors.Error, OSError):
            self.stands = False

    async def status(self, code: str, headers: Mapping[str, str]) -> None:
        """The server's word on a request: it expired, or it cannot be."""
        self.slots.give_back(int(headers.get("Nats-Pending-Messages", "0")))
        if code == _EXPIRED:
            await self.ask()
        else:
            self.stands = False  # the consumer is gone or moves: `maintain` asks again


def _nobody(delivery: Delivery) -> None:
    raise AssertionError("a job came before anybody took jobs")
