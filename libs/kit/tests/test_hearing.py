"""Who keeps things in memory knows whether it has heard all that was said against them."""

from __future__ import annotations

import asyncio

from nats.aio.msg import Msg

from farthing_kit import nats
from farthing_kit.clock import SystemClock
from farthing_kit.hearing import Hearing
from farthing_kit.telemetry import Telemetry
from farthing_kit.testing.proxy import Direction, FaultProxy
from farthing_kit.testing.waiting import until


async def test_it_lapses_when_nothing_arrives_and_comes_back_only_after_what_was_said_meanwhile(nats_url: str) -> None:
    heard: list[bytes] = []
    telemetry = Telemetry("test")

    async def hear(message: Msg) -> None:
        heard.append(message.data)

    port = int(nats_url.rsplit(":", 1)[1])
    async with (
        FaultProxy(port) as proxy,
        nats.connect(nats_url, name="tells") as teller,
        nats.connect(f"nats://{proxy.address}", name="listens") as listener,
    ):
        hearing = Hearing(listener, SystemClock())
        assert not hearing.current
        await nats.subscribe(listener, telemetry, "over", hear)
        await hearing.listen(telemetry)
        assert hearing.current
        keeping = asyncio.create_task(hearing.keep())
        proxy.partition(Direction.DOWN)  # the connection looks as well as before
        await teller.publish("over", b"it")
        await teller.flush()
        await until(lambda: not hearing.current)
        assert heard == []
        assert listener.is_connected
        proxy.heal()
        await until(lambda: hearing.current)
        assert heard == [b"it"]
        keeping.cancel()
