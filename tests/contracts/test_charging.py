"""Gateway and scheduler, each as it is, agree on what every end of a request costs.

The real gateway asks the real scheduler; in front of them are scripted caches and books, behind them a scripted
engine. However a request ends, its reservation is ended once: settled by a usage event, voided by one, or released; and
what the caller is told about a charge is what happened.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.gateway.v1.gateway_service_pb2_grpc import GatewayServiceStub
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.model_pb2 import ChatMessage, ChatRole
from farthing_kit.charging import Charged, charged_after
from farthing_kit.errors import FarthingError
from farthing_kit.local.nats import Nats
from services.gateway.tests.peers import World, world
from services.scheduler.tests.mesh import QUICK, Mesh, mesh, until

KEY = (("authorization", "Bearer fk_acme"),)
R = ErrorReason


@dataclass
class Pair:
    """Both services."""

    gateway: World
    scheduler: Mesh

    def prompt(self, script: str, key: str = "") -> pb.Prompt:
        message = ChatMessage(role=ChatRole.CHAT_ROLE_USER, content=script)
        control = pb.CacheControl(no_cache=True, no_store=True)
        return pb.Prompt(messages=[message], model="small", cache_control=control, idempotency_key=key)

    async def ask(self, script: str, key: str = "", timeout: float = 10.0) -> list[pb.GenerateResponse]:
        request = pb.GenerateRequest(prompt=self.prompt(script, key))
        stub = GatewayServiceStub(self.gateway.channel)
        return [event async for event in stub.Generate(request, metadata=KEY, timeout=timeout)]

    async def leave_after(self, pieces: int, script: str, key: str = "") -> None:
        """Read so many events, then cancel the call."""
        request = pb.GenerateRequest(prompt=self.prompt(script, key))
        call = GatewayServiceStub(self.gateway.channel).Generate(request, metadata=KEY)
        events = aiter(call)
        for _ in range(pieces):
            await anext(events)
        call.cancel()

    async def error_of(self, asking: Any) -> FarthingError:
        with pytest.raises(FarthingError) as caught:
            await asking
        return caught.value

    @property
    def held(self) -> list[str]:
        return list(self.gateway.script.reservations)

    async def ends(self) -> dict[str, set[str]]:
        """How each reservation ended, once all have."""
        found: dict[str, set[str]] = {}

        async def all_ended() -> bool:
            found.clear()
            found.update({name: set() for name in self.held})
            for event in await self.scheduler.published():
                found.setdefault(event.reservation_id, set()).add("voided" if event.voided else "charged")
            for name in self.gateway.script.released:
                found[name].add("released")
            return all(found.values())

        await until(all_ended)
        return found

    async def charged_events(self) -> list[UsageEvent]:
        return [event for event in await self.scheduler.published() if not event.voided]


@pytest.fixture
async def pair(nats_url: str, nats_server: Nats, tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        mesh(nats_server, tmp_path / "scheduler", times=QUICK) as scheduler,
        world(nats_url, tmp_path / "gateway", scheduler_target=scheduler.scheduler.target) as gateway,
    ):
        yield Pair(gateway, scheduler)


async def test_a_whole_answer_is_settled(pair: Pair) -> None:
    events = await pair.ask("one two")
    [end] = (await pair.ends()).values()
    [event] = await pair.charged_events()
    assert end == {"charged"}
    assert event.request_id == event.attempt.request_id == events[0].decision.request_id
    assert events[-1].final.usage == event.usage


@pytest.mark.parametrize(
    ("script", "charged"),
    [("!", Charged.NO), ("some text !", Charged.NO), ("!late", Charged.NO), ("some text !late", Charged.YES)],
)
async def test_an_engine_that_fails_is_charged_as_the_caller_is_told(pair: Pair, script: str, charged: Charged) -> None:
    error = await pair.error_of(pair.ask(script))
    assert charged_after(error) is charged
    [end] = (await pair.ends()).values()
    assert ("charged" in end) == (charged is Charged.YES)


async def test_a_deadline_that_passes_after_text_is_settled_at_once(pair: Pair) -> None:
    await pair.error_of(pair.ask("some text |gate", timeout=1.0))
    assert [*(await pair.ends()).values()] == [{"charged"}]


async def test_a_deadline_that_passes_before_text_gives_everything_back(pair: Pair) -> None:
    await pair.error_of(pair.ask("|gate", timeout=1.0))
    [end] = (await pair.ends()).values()
    assert "charged" not in end


async def test_a_caller_who_leaves_pays_for_what_was_written(pair: Pair) -> None:
    await pair.leave_after(3, "one two three |gate")
    assert [*(await pair.ends()).values()] == [{"charged"}]
    [event] = await pair.charged_events()
    assert event.usage.output_tokens >= 2


@pytest.mark.parametrize("script", ["one !", "one !late", "one |gate"])
async def test_after_every_end_a_retry_under_the_same_key_runs_at_once_as_the_same_request(
    pair: Pair, script: str
) -> None:
    for _ in range(3):
        error = await pair.error_of(pair.ask(script, "k", timeout=1.0))
        assert error.reason != R.ERROR_REASON_IN_PROGRESS
        await pair.ends()
    await until(lambda: _are(pair, 3))
    events = await pair.scheduler.published()
    assert len({event.attempt.request_id for event in events}) == 1
    assert len({event.attempt.attempt_id for event in events}) == 3


async def _are(pair: Pair, count: int) -> bool:
    return len(await pair.scheduler.published()) == count


async def test_twins_on_two_gateways_run_once_and_each_ends_its_own_hold(
    pair: Pair, nats_url: str, tmp_path: Path
) -> None:
    target = pair.scheduler.scheduler.target
    async with world(nats_url, tmp_path / "other", scheduler_target=target) as gateway:
        other = Pair(gateway, pair.scheduler)
        for number in range(6):
            key = f"twin {number}"
            first = asyncio.ensure_future(pair.ask(f"one |gate{number} two", key))
            await pair.scheduler.inference.reached(f"gate{number}")
            error = await other.error_of(other.ask(f"one |gate{number} two", key))
            assert error.reason == R.ERROR_REASON_IN_PROGRESS
            await until(lambda wanted=number + 1: len(gateway.script.released) == wanted)
            assert pair.gateway.script.released == []
            pair.scheduler.inference.open(f"gate{number}")
            await first
        assert set(gateway.script.released) == set(other.held)
        assert not set(other.held) & set(pair.held)
    assert pair.scheduler.inference.calls == 6
    assert all(end == {"charged"} for end in (await pair.ends()).values())
