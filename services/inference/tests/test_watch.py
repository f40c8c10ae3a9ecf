"""Servers are checked in the background, sooner when one is doubted, and come back by themselves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from farthing_inference.app.watch import Intervals, Watch
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.pools import PoolState
from farthing_kit.telemetry import Telemetry
from farthing_kit.testing.clock import VirtualClock
from services.inference.tests.builders import A, B, pool
from services.inference.tests.fakes import EchoEngine, EchoProbe

UP_S, DOWN_S = 2.0, 0.5


class World:
    """A watch over two pools of one server each."""

    def __init__(self, clock: VirtualClock) -> None:
        self.clock = clock
        specs = (pool("x", A), pool("y", B))
        self.fleet = Fleet(specs)
        self.engine = EchoEngine()
        self.probe = EchoProbe(self.engine)
        self.reports: list[tuple[str, bool]] = []
        self.watch = Watch(
            specs,
            self.fleet,
            self.probe,
            clock=clock,
            log=Telemetry("test").log,
            intervals=Intervals(UP_S, DOWN_S),
            report=self._report,
        )

    async def _report(self, name: str, up: bool) -> None:
        self.reports.append((name, up))

    def state(self, name: str) -> PoolState:
        return self.fleet.status(name).state


@pytest.fixture
async def world(clock: VirtualClock) -> AsyncIterator[World]:
    made = World(clock)
    await made.watch.check_all()
    task = asyncio.create_task(made.watch.run())
    await clock.advance(0)
    yield made
    task.cancel()
    await asyncio.wait([task])


async def test_every_server_is_checked_before_work_is_taken(clock: VirtualClock) -> None:
    made = World(clock)
    made.engine.servers[B].up = False
    await made.watch.check_all()
    assert (made.state("x"), made.state("y")) == (PoolState.ACTIVE, PoolState.UNREACHABLE)
    assert made.reports == [("x", True), ("y", False)]


async def test_a_server_that_stops_answering_is_left_out_after_three_checks(world: World) -> None:
    world.engine.servers[A].up = False
    await world.clock.advance(UP_S)
    assert world.state("x") is PoolState.ACTIVE
    await world.clock.advance(2 * DOWN_S)
    assert world.state("x") is PoolState.UNREACHABLE
    assert world.reports[-1] == ("x", False)


async def test_a_server_that_answers_again_comes_back_by_itself(world: World) -> None:
    world.engine.servers[A].up = False
    world.fleet.refused(A)
    await world.clock.advance(UP_S)
    world.engine.servers[A].up = True
    await world.clock.advance(DOWN_S)
    assert world.state("x") is PoolState.ACTIVE
    assert world.reports[-2:] == [("x", False), ("x", True)]


async def test_a_suspected_server_is_checked_at_once(world: World) -> None:
    before = world.probe.asked.count(A)
    world.fleet.refused(A)
    world.watch.suspect(A)
    await world.clock.advance(0)
    assert world.probe.asked.count(A) == before + 1
    assert world.state("x") is PoolState.ACTIVE


async def test_a_server_whose_model_is_not_ready_yet_gets_no_work(world: World) -> None:
    world.engine.servers[A].missing.add("echo")
    await world.clock.advance(UP_S)
    assert world.state("x") is PoolState.UNREACHABLE


async def test_a_healthy_server_is_not_bothered_more_than_agreed(world: World) -> None:
    before = len(world.probe.asked)
    await world.clock.advance(10 * UP_S)
    assert len(world.probe.asked) - before == 2 * 10


async def test_a_model_that_is_ready_is_used_with_the_markers_of_its_tokenizer(
    world: World, clock: VirtualClock
) -> None:
    server = world.engine.servers[A]
    assert world.fleet.choose("echo", {B}).model.markers.tokens == frozenset()
    server.up = False
    await clock.advance(3 * UP_S)
    server.up, server.control_tokens = True, ("<eos>",)
    await clock.advance(UP_S)
    assert world.fleet.choose("echo", {B}).model.markers.tokens == {"<eos>"}
    assert world.fleet.choose("echo", {A}).model.markers.tokens == frozenset()


async def test_a_model_that_does_not_tell_its_markers_is_not_used(world: World, clock: VirtualClock) -> None:
    server = world.engine.servers[A]
    server.up = False
    await clock.advance(3 * UP_S)
    server.up, server.mute = True, True
    await clock.advance(UP_S)
    assert world.state("x") is PoolState.UNREACHABLE
    server.mute = False
    await clock.advance(UP_S)
    assert world.state("x") is PoolState.ACTIVE
