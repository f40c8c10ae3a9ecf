"""Announcements on core NATS: what every gateway has to forget."""

from __future__ import annotations

from typing import Final

import nats.errors
from nats.aio.client import Client

from farthing_kit.errors import StoreUnavailable

SUBJECT: Final = "farthing.invalidate.keys"
FLUSH_TIMEOUT_S: Final = 2


class NatsAnnouncer:
    """Says it once; a gateway that is not there catches up when what it kept is too old."""

    def __init__(self, client: Client) -> None:
        self._client = client

    async def announce(self, what: str) -> None:
        """Returns once the server has it."""
        try:
            await self._client.publish(SUBJECT, what.encode())
            await self._client.flush(FLUSH_TIMEOUT_S)
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise StoreUnavailable(
                "it is done, but the gateways could not be told; repeat the call, or wait until what they keep ends",
                metadata={"store": "nats", "cause": type(error).__name__},
                retry_after_s=1.0,
            ) from error
