"""Hears over core NATS what other replicas were told to forget, and gives the memory back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg

from farthing_cache.adapters.announcer import SUBJECT
from farthing_cache.domain.answer import Org
from farthing_kit import nats
from farthing_kit.telemetry import Telemetry

PREFIX: Final = "org:"


async def hear(client: Client, telemetry: Telemetry, forget: Callable[[Org], None]) -> None:
    """Subscribe; the subscription ends with the connection. A word that is lost costs memory, never a wrong answer:
    each look-up asks Redis for the epoch and for its candidates."""

    async def on_message(message: Msg) -> None:
        forget(Org(message.data.decode().removeprefix(PREFIX)))

    await nats.subscribe(client, telemetry, SUBJECT, on_message)
