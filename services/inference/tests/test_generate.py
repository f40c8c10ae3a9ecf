"""The use case: what callers see, what happens when servers fail, and that every place is given back."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from farthing_inference.adapters.chat_templates import JinjaTemplates
from farthing_inference.app.generate import MAX_ATTEMPTS, Generate, Limits
from farthing_inference.app.places import Places, Waiting
from farthing_inference.domain.errors import (
    EmptyPrompt,
    EngineFailed,
    GenerationLost,
    ModelFull,
    ModelUnavailable,
    PromptTooLarge,
    ServerFull,
    ServerStalled,
    ServerUnreachable,
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

WAITING = Waiting(restart_s=5.0, requests=3)


class World:
    """The use case over servers in memory."""

    def __init__(self, *pools: PoolSpec) -> None:
        self.fleet = fleet(*(pools or (pool("p", A, B),)))
        self.engine = EchoEngine()
        self.meter = NotingMeter()
        self.suspects: list[ServerAddress] = []
        self.clock = VirtualClock()
        self.places = Places(self.fleet, WAITING, clock=self.clock, log=Telemetry("test").log)
        self.generate = Generate(
            self.fleet,
            self.places,
            self.engine,
            JinjaTemplates(1000),
            self.meter,
            clock=self.clock,
            log=Telemetry("test").log,
            limits=Limits(max_prompt_bytes=1000, timeout_s=60),
            suspect=self.suspects.append,
        )

    async def events(self, wanted: Generation | None = None) -> list[Event]:
        return [event async for event in self.generate(wanted or generation())]

    async def fails(self, wanted: Generation | None = None, after_s: float = 0.0) -> FarthingError:
        asked = asyncio.create_task(self.events(wanted))
        await self.clock.advance(after_s)
        with pytest.raises(FarthingError) as caught:
            await asked
        assert self.idle
        return caught.value

    def down(self, *servers: ServerAddress) -> None:
        """They stop, and are known to have."""
        for server in servers:
            self.engine.servers[server].up = False
            self.fleet.refused(server)

    def up(self, server: ServerAddress) -> None:
        """It is back, and a check has found it."""
        self.engine.servers[server].up = True
        self.fleet.answered(server, frozenset({"echo"}))

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


async def test_no_more_servers_are_tried_than_a_prompt_may_take_down() -> None:
    servers = [ServerAddress(f"s{number}:1") for number in range(MAX_ATTEMPTS + 1)]
    world = World(pool("p", *servers))
    for server in servers:
        world.engine.servers[server].up = False
    assert isinstance(await world.fails(after_s=1), ModelUnavailable)
    assert sum(server.asked for server in world.engine.servers.values()) == MAX_ATTEMPTS


async def test_a_failure_that_no_restart_mends_is_tried_once_elsewhere() -> None:
    servers = [ServerAddress(f"s{number}:1") for number in range(3)]
    world = World(pool("p", *servers))
    for server in servers:
        world.engine.servers[server].failure = EngineFailed("the model raised an error")
    assert isinstance(await world.fails(), ModelUnavailable)
    assert sum(server.asked for server in world.engine.servers.values()) == 2


async def test_with_no_other_server_the_model_is_unavailable_with_a_time_to_come_back() -> None:
    world = World(pool("p", A))
    world.engine.servers[A].up = False
    error = await world.fails(after_s=WAITING.restart_s)
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after_s is not None


async def test_a_request_waits_for_the_only_server_to_come_back() -> None:
    world = World(pool("p", A))
    world.down(A)
    asked = asyncio.create_task(world.events(generation("hi")))
    await world.clock.advance(WAITING.restart_s / 2)
    assert world.engine.servers[A].asked == 0
    world.up(A)
    assert [type(event) for event in await asked] == [Started, Chunk, Finished]
    assert world.places.waiting == 0


async def test_a_request_whose_server_dies_before_the_first_token_runs_again_when_it_is_back() -> None:
    world = World(pool("p", A))
    server = world.engine.servers[A]
    server.prefill, server.pause_prefill, server.failure = (2,), asyncio.Event(), ServerUnreachable("unavailable")
    asked = asyncio.create_task(world.events(generation("to be or")))
    await world.clock.advance(0)
    server.pause_prefill.set()
    await world.clock.advance(1)
    server.prefill, server.pause_prefill, server.failure = (3,), None, None
    world.up(A)
    assert await asked == [
        Started("p", "NONE"),
        Chunk("", 2, 0),
        Chunk("", 3, 0),
        *(Chunk(word, 3, count) for count, word in enumerate(["to", " be", " or"], start=1)),
        Finished(FinishReason.STOP, TokenUsage(fresh_input=3, output=3)),
    ]


async def test_the_prompt_is_told_while_it_is_read_and_never_less_of_it_by_another_server() -> None:
    world = World(pool("x", A), pool("y", B, usd=9))
    first, second = world.engine.servers[A], world.engine.servers[B]
    first.prefill, first.failure = (2, 3), ServerUnreachable("unavailable")
    second.prefill = (1, 2, 3)
    events = await world.events(generation("to be or", sampling=Sampling(1)))
    assert events[:4] == [Started("x", "NONE"), Chunk("", 2, 0), Chunk("", 3, 0), Started("y", "NONE")]
    assert events[4:5] == [Chunk("to", 3, 1)]
    assert len(world.meter.firsts) == 1


async def test_who_leaves_while_the_prompt_is_read_has_used_what_was_read() -> None:
    world = World(pool("p", A))
    world.engine.servers[A].prefill, world.engine.servers[A].pause_prefill = (2,), asyncio.Event()
    async with aclosing(world.generate(generation("to be or"))) as events:
        assert [await anext(events), await anext(events)] == [Started("p", "NONE"), Chunk("", 2, 0)]
    assert world.meter.ends == [(A, "cancelled", TokenUsage(fresh_input=2, output=0))]
    assert world.meter.firsts == []


async def test_no_more_wait_than_may_and_the_rest_is_told_at_once() -> None:
    world = World(pool("p", A))
    world.down(A)
    waiting = [asyncio.create_task(world.events(generation("hi"))) for _ in range(WAITING.requests)]
    await world.clock.advance(0)
    error = await world.fails()
    assert isinstance(error, ModelUnavailable)
    assert error.retry_after_s is not None
    world.up(A)
    assert all(isinstance(events[-1], Finished) for events in await asyncio.gather(*waiting))


async def test_a_model_that_stays_away_is_not_waited_for_by_every_request() -> None:
    world = World(pool("p", A))
    world.down(A)
    await world.fails(after_s=WAITING.restart_s)
    assert isinstance(await world.fails(), ModelUnavailable)
    world.up(A)
    world.down(A)  # a new outage, and a new wait
    asked = asyncio.create_task(world.events(generation("hi")))
    await world.clock.advance(1)
    world.up(A)
    assert isinstance((await asked)[-1], Finished)


async def test_a_pool_that_was_taken_out_of_use_is_not_waited_for() -> None:
    world = World(pool("p", A))
    world.fleet.set_draining("p", draining=True)
    assert isinstance(await world.fails(), ModelUnavailable)


async def test_who_waited_and_finds_the_server_full_goes_on_waiting_for_a_place() -> None:
    world = World(pool("p", A, max_in_flight=1))
    world.down(A)
    waiting = [asyncio.create_task(world.events(generation("a b"))) for _ in range(3)]
    await world.clock.advance(0)
    world.up(A)
    assert all(isinstance(events[-1], Finished) for events in await asyncio.gather(*waiting))


async def test_nobody_waits_longer_than_its_deadline() -> None:
    world = World(pool("p", A))
    world.down(A)
    with deadline.within(1.0):
        assert isinstance(await world.fails(after_s=1.0), ModelUnavailable)


async def test_a_waiting_request_that_is_cancelled_is_forgotten() -> None:
    world = World(pool("p", A))
    world.down(A)
    asked = asyncio.create_task(world.events())
    await world.clock.advance(0)
    assert world.places.waiting == 1
    asked.cancel()
    await asyncio.wait([asked])
    assert world.places.waiting == 0


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


async def test_a_template_that_leaves_nothing_of_the_messages_is_an_empty_prompt() -> None:
    world = World(pool("p", A, models=(model(chat_template="{% if false %}x{% endif %}"),)))
    assert isinstance(await world.fails(), EmptyPrompt)
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
