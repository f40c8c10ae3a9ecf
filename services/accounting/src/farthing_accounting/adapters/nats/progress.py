"""How far the usage stream is folded, whichever replica folds it."""

from __future__ import annotations

from datetime import datetime

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from farthing_accounting.adapters.nats.usage import CONSUMER, STREAM, SUBJECTS
from farthing_kit import nats as kit_nats
from farthing_kit.clock import Clock


class JetStreamProgress:
    """The consumer is one for all replicas; an event is acknowledged once it is booked and settled."""

    def __init__(self, client: Client, clock: Clock) -> None:
        self._js = client.jetstream()
        self._clock = clock

    async def booked_until(self) -> datetime:
        """The moment at which the oldest event was published that is not acknowledged; now, when all are."""
        now = self._clock.now()
        try:
            consumer = await self._js.consumer_info(STREAM, CONSUMER)
            if not consumer.num_pending and not consumer.num_ack_pending:
                return now
            floor = consumer.ack_floor.stream_seq if consumer.ack_floor else 0
            oldest = await self._js.get_msg(STREAM, seq=floor + 1, subject=SUBJECTS, next=True)
        except nats.js.errors.NotFoundError:
            raise kit_nats.queue_error(TimeoutError()) from None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            raise kit_nats.queue_error(error) from error
        return now if oldest.time is None else min(now, oldest.time)
