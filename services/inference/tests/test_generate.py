"""The use case: what callers see, what happens when servers fail, and that every place is given back."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from farthing_inference.adapters.chat_templates import JinjaTemplates
from farthing_inference.app.generate import Generate, Limits
from farthing_inference.domain.errors import (
    EngineFailed,
    GenerationLost,
    ModelFull,
    ModelUnavailable,
    PromptTooLarge,
    ServerFull,
    ServerStalled,
    UnknownModel,
)
from farthing_inference.domain.generation import Chunk, Event, Finished, FinishReason, Generation, Sampling, Started
from farthing_inference.domain.pools import PoolSpec, ServerAddress
from farthing_kit import deadline
from farthing_kit.errors import DeadlineExceeded, DeadlineTooShort, FarthingError
from farthing_kit.telemetry import Telemetry
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.usage import TokenUsage
from services.inference.tests.builders import A, B, fleet, generation, model, pool
from services.inference.tests.fakes import EchoEngine, NotingMeter


class World:
    """The use case over servers in memory."""

    def __init__(self, *pools: PoolSpec) -> None:
        self.fleet = fleet(*(pools or (pool("p", A, B),)))
        self.engine = EchoEngine()
        self.meter = NotingMeter()
        self.suspects: list[ServerAddress] = []
        self.generate = Generate(
            self.fleet,
            self.engine,
            JinjaTemplates(1000),
            self.meter,
            clock=VirtualClock(),
            log=Telemetry("test").log,
            limits=Limits(max_prompt_bytes=1000, timeout_s=60),
            suspect=self.suspects.append,
        )

    async def events(self, wanted: Generation | None = None) -> list[Event]:
        return [event async for event in self.generate(wanted or generation())]

    async def fails(self, wanted: Generation | None = None) -> FarthingError:
        with pytest.raises(FarthingError) as caught:
            await self.events(wanted)
        assert self.idle
        return caught.value

    @property
    def idle(self) -> bool:
        places = sum(status.in_flight for status in self.fleet.pools())
        return places == 0 and all(server.running == 0 for server in self.engine.servers.values())


async def test_it_starts_then_says_each_token_then_finishes_with_exact_counts() -> None:
    world = World()
    started, *chunks, finished = await world.events(generation("to be or"))
    assert started == Started("p", "NONE")
    assert chunks == [Chunk("to", 3, 1), Chunk(" be", 3, 2), Chunk(" or", 3, 3)]
    assert finished == Finished(FinishReason.STOP, TokenUsage(fresh_input=3, output=3))
    assert world.idle
    assert world.meter.ends == [(A, "stop", TokenUsage(fresh_input=3, output=3))]


async def test_a_models_own_stop_strings_join_the_callers() -> None:
    world = World(pool("p", A, models=(model(stop=("\nQuestion:",)),)))
    await world.events(generation("a", sampling=Sampling(8, stop=("END",))))
    assert world.engine.servers[A].stops == [("END", "\nQuestion:")]


async def test_the_output_limit_ends_it_with_length() -> None:
    finished = (await World().events(generation("a b c", sampling=Sampling(2))))[-1]
    assert finished == Finished(FinishReason.LENGTH, TokenUsage(fresh_input=3, output=2))


async def test_a_server_that_is_gone_is_replaced_unseen_and_remembered() -> None:
    world = World()
    world.engine.servers[A].up = False
    assert [type(event) for event in await world.events(generation("hi"))] == [Started, Chunk, Finished]
    assert world.suspects == [A]
    await world.events(generation("hi"))
    assert world.engine.servers[A].asked == 1


async def test_started_names_the_pool_that_answers_not_the_one_that_failed() -> None:
    world = World(pool("x", A), pool("y", B, usd=9))
    world.engine.servers[A].up = False
    assert (await world.events())[0] == Started("y", "NONE")


async def test_no_third_server_is_tried() -> None:
    servers = [ServerAddress(f"s{number}:1") for number in range(3)]
    world = World(pool("p", *servers))
    for server in servers:
        world.engine.servers[server].up = False
    assert isinstance(await world.fails(), ModelUnavailable)
    assert sum(server.asked for server in world.engine.servers.values()) == 2


async def test_with_no_other_server_the_model_is_unavailable_with_a_time_to_come_back() -> None:
    world = World(pool("p", A))
    world.engine.servers[A].up = False
    error = await world.fails()
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after_s is not None


async def test_full_queues_are_overload() -> None:
    world = World()
    for server in (A, B):
        world.engine.servers[server].failure = ServerFull("queue full")
    assert isinstance(await world.fails(), ModelFull)
    assert world.suspects == []


async def test_a_prompt_that_breaks_the_engine_does_not_take_servers_out() -> None:
    world = World()
    for server in (A, B):
        world.engine.servers[server].failure = EngineFailed("the model raised an error")
    assert isinstance(await world.fails(), ModelUnavailable)
    assert world.fleet.status("p").servers_up == 2


async def test_a_stalled_server_counts_as_one_failed_check() -> None:
    world = World()
    world.engine.servers[A].failure = ServerStalled("silent for too long")
    await world.events()
    assert world.fleet.health(A).failures == 1
    assert world.suspects == [A]


async def test_a_model_that_a_server_lost_is_looked_for_elsewhere() -> None:
    world = World()
    world.engine.servers[A].missing.add("echo")
    assert isinstance((await world.events())[-1], Finished)
    assert not world.fleet.health(A).can_run("echo")


async def test_after_the_first_token_nothing_is_tried_again() -> None:
    world = World()
    world.engine.servers[A].failure, world.engine.servers[A].fail_after = EngineFailed("x"), 2
    async with aclosing(world.generate(generation("a b c"))) as events:
        assert [type(await anext(events)) for _ in range(3)] == [Started, Chunk, Chunk]
        with pytest.raises(GenerationLost):
            await anext(events)
    assert world.engine.servers[B].asked == 0
    assert world.idle
    assert world.meter.ends == [(A, "failed", TokenUsage(fresh_input=3, output=2))]


async def test_closing_the_stream_stops_the_model_and_gives_the_place_back() -> None:
    world = World()
    async with aclosing(world.generate(generation("a b c"))) as events:
        await anext(events)
        await anext(events)
        assert not world.idle
    assert world.idle
    assert world.meter.ends == [(A, "cancelled", TokenUsage(fresh_input=3, output=1))]


async def test_cancelling_the_task_while_it_waits_stops_the_model() -> None:
    world = World(pool("p", A))
    server = world.engine.servers[A]
    server.pause = asyncio.Event()
    task = asyncio.create_task(world.events(generation("a b")))
    await server.said.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert world.idle


async def test_an_unknown_model_is_refused_before_any_server_is_asked() -> None:
    world = World()
    assert isinstance(await world.fails(generation(model="large-v9")), UnknownModel)
    assert not world.engine.servers


async def test_a_prompt_that_cannot_fit_the_context_is_refused_before_any_server_is_asked() -> None:
    world = World(pool("p", A, models=(model(context_tokens=10),)))
    error = await world.fails(generation("x" * 321))
    assert isinstance(error, PromptTooLarge)
    assert error.metadata == {"limit_bytes": "320", "actual_bytes": "321"}
    assert not world.engine.servers


async def test_a_prompt_that_the_model_counts_as_too_long_is_not_tried_elsewhere() -> None:
    world = World(pool("p", A, B, models=(model(context_tokens=10),)))
    assert isinstance(await world.fails(generation("x " * 10 + "x")), PromptTooLarge)
    assert world.engine.servers[B].asked == 0
    assert world.meter.ends[0][1] == "refused"


async def test_without_time_left_nothing_is_started() -> None:
    world = World()
    with deadline.within(0.001):
        assert isinstance(await world.fails(), DeadlineTooShort)
    assert not world.engine.servers


async def test_the_deadline_bounds_the_generation() -> None:
    world = World(pool("p", A))
    world.engine.servers[A].pause = asyncio.Event()
    with deadline.within(0.05):
        assert isinstance(await world.fails(generation("a b")), DeadlineExceeded)
    assert world.meter.ends[0][1] == "deadline"
