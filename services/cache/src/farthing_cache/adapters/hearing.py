"""Hears over core NATS what other replicas were told to forget, and to erase."""

from __future__ import annotations

from collections.abc import Callable

from nats.aio.client import Client
from nats.aio.msg import Msg

from farthing_cache.adapters.announcer import ERASURE_SUBJECT, PREFIX, SUBJECT
from farthing_cache.domain.answer import Org
from farthing_kit import nats
from farthing_kit.telemetry import Telemetry

Forget = Callable[[Org], None]


async def hear(client: Client, telemetry: Telemetry, forget: Forget, erase: tuple[Forget, ...]) -> None:
    """Subscribe; the subscriptions end with the connection. Of what is forgotten a word that is lost costs memory,
    never a wrong answer: each look-up asks Redis for the epoch and for its candidates. Of what is erased it may leave
    counts of the last seconds, which are written again without a name."""

    async def on_forgotten(message: Msg) -> None:
        forget(Org(message.data.decode().removeprefix(PREFIX)))

    async def on_erased(message: Msg) -> None:
        for each in erase:
            each(Org(message.data.decode()))

    await nats.subscribe(client, telemetry, SUBJECT, on_forgotten)
    await nats.subscribe(client, telemetry, ERASURE_SUBJECT, on_erased)
