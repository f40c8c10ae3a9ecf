"""One model call for all who ask the same at once: who leads, who follows, and what happens when something is lost."""

import asyncio
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta

import pytest

from farthing_gateway.app.flights import Pace
from farthing_gateway.domain.errors import WorkerLost
from farthing_gateway.domain.events import Decision, Delta, Event
from farthing_gateway.domain.model import CacheLevel, FinishReason
from farthing_gateway.domain.prompt import CacheControl, Prompt
from farthing_gateway.ports import Chunk, Finished, Started
from farthing_kit.errors import Unavailable
from farthing_kit.testing.waiting import until
from services.gateway.tests.fakes import PACE, Mesh, Told
from services.gateway.tests.values import USAGE, ask, sampled


@pytest.fixture
def pace() -> Pace:
    return PACE


@pytest.fixture
def mesh(pace: Pace) -> Mesh:
    mesh = Mesh(pace=pace)
    mesh.line.now = None  # no near cache: each request gets as far as the cache
    return mesh


async def collected(mesh: Mesh, prompt: Prompt | None = None) -> Told:
    return Told(tuple([event async for event in mesh.gateway.answer("fk_acme", prompt or ask())]))


async def leading(mesh: Mesh, after: int = 2) -> "asyncio.Task[Told]":
    """A request whose model pauses after some steps."""
    mesh.scheduler.pause_after = after
    task = asyncio.create_task(collected(mesh))
    await mesh.scheduler.paused.wait()
    mesh.scheduler.pause_after = None
    return task


async def until_published(mesh: Mesh, text: str) -> None:
    await until(lambda: "".join(mesh.cache.published) == text)


async def leaves(mesh: Mesh, leader: "asyncio.Task[Told]") -> None:
    """Its caller goes away."""
    leader.cancel()
    await asyncio.wait({leader})
    await mesh.background.drain()


async def test_who_asks_meanwhile_reads_along_from_the_beginning_and_pays_nothing(mesh: Mesh) -> None:
    leader = await leading(mesh)
    await until_published(mesh, "Par")
    followers = [asyncio.create_task(collected(mesh)) for _ in range(3)]
    await until(lambda: mesh.cache.look_ups == 4)
    mesh.scheduler.go_on.set()
    told = [await task for task in (leader, *followers)]
    assert {each.text for each in told} == {"Paris."}
    assert [each.level for each in told] == [CacheLevel.NONE] + [CacheLevel.EXACT] * 3
    assert all(each.final.costs.cost == 0 and each.final.costs.saved == 32_000 for each in told[1:])
    assert len(mesh.scheduler.jobs) == 1
    assert [use.answer.model for use in mesh.usage.booked] == ["small"] * 3
    assert mesh.watcher.flights == ["followed"] * 3
    assert mesh.cache.followers == 1  # one stream for all of this gateway


async def test_the_next_takes_over_when_the_leader_goes_and_tells_nothing_twice(mesh: Mesh) -> None:
    leader = await leading(mesh)
    await until_published(mesh, "Par")
    heard: list[Event] = []
    begun = asyncio.Event()

    async def follow() -> None:
        async for event in mesh.gateway.answer("fk_acme", ask()):
            heard.append(event)
            begun.set()

    follower = asyncio.create_task(follow())
    await begun.wait()
    await leaves(mesh, leader)  # its caller went away: the lease is given up
    await follower
    assert "".join(event.text for event in heard if isinstance(event, Delta)) == "Paris."
    assert sum(isinstance(event, Decision) for event in heard) == 1
    assert len(mesh.scheduler.jobs) == 2
    assert mesh.watcher.flights == ["took_over"]
    told = Told(tuple(heard))
    assert told.final.costs.cost > 0


async def test_of_several_followers_one_takes_over_and_the_others_follow_it(mesh: Mesh) -> None:
    leader = await leading(mesh)
    await until_published(mesh, "Par")
    begun = 0

    async def follow() -> str:
        nonlocal begun
        text = ""
        async for event in mesh.gateway.answer("fk_acme", ask()):
            if isinstance(event, Delta):
                begun += not text
                text += event.text
        return text

    followers = [asyncio.create_task(follow()) for _ in range(4)]
    await until(lambda: begun == 4)
    mesh.scheduler.pause_after = 2
    await leaves(mesh, leader)
    await until(lambda: mesh.cache.followers == 2)  # the old one, and that of the one who leads now
    mesh.scheduler.go_on.set()
    assert {await follower for follower in followers} == {"Paris."}
    assert len(mesh.scheduler.jobs) == 2
    assert sorted(mesh.watcher.flights) == ["followed"] * 3 + ["took_over"]


async def test_who_stays_hears_the_end_though_who_came_first_has_left(mesh: Mesh) -> None:
    leader = await leading(mesh)
    await until_published(mesh, "Par")
    first, second = [asyncio.create_task(collected(mesh)) for _ in range(2)]
    await until(lambda: mesh.cache.look_ups == 3)
    await leaves(mesh, first)
    mesh.scheduler.go_on.set()
    assert (await second).text == (await leader).text == "Paris."


async def test_an_answer_that_begins_otherwise_when_made_again_is_broken_off(mesh: Mesh) -> None:
    leader = await leading(mesh)
    await until_published(mesh, "Par")
    begun = asyncio.Event()

    async def follow() -> None:
        async for _ in mesh.gateway.answer("fk_acme", ask()):
            begun.set()

    follower = asyncio.create_task(follow())
    await begun.wait()
    mesh.scheduler.steps[1] = Chunk("Lon")
    await leaves(mesh, leader)
    with pytest.raises(WorkerLost):
        await follower


@pytest.mark.parametrize("pace", [replace(PACE, again_s=0.0)])
async def test_a_follower_makes_the_answer_itself_when_the_cache_stays_away(mesh: Mesh, pace: Pace) -> None:
    leader = await leading(mesh, after=1)
    mesh.cache.deaf = pace.tries
    told = await collected(mesh)
    assert (told.text, told.level) == ("Paris.", CacheLevel.NONE)
    assert mesh.watcher.flights == ["went_on_alone"]
    await leaves(mesh, leader)


@pytest.mark.parametrize("pace", [replace(PACE, again_s=0.0)])
async def test_a_cache_that_fails_for_a_moment_is_asked_again(mesh: Mesh, pace: Pace) -> None:
    leader = await leading(mesh)
    await until_published(mesh, "Par")
    mesh.cache.deaf = pace.tries - 1
    follower = asyncio.create_task(collected(mesh))
    await until(lambda: mesh.cache.followers == 1)
    mesh.scheduler.go_on.set()
    assert (await follower).text == (await leader).text == "Paris."
    assert mesh.watcher.flights == ["followed"]


@pytest.mark.parametrize("pace", [replace(PACE, silence_s=0.01)])
async def test_a_silent_leader_does_not_keep_a_follower_for_ever(mesh: Mesh, pace: Pace) -> None:
    leader = await leading(mesh, after=1)
    told = await collected(mesh)
    assert told.text == "Paris."
    assert mesh.watcher.flights == ["went_on_alone"]
    await leaves(mesh, leader)


async def test_a_lease_is_given_up_when_nothing_was_made(mesh: Mesh) -> None:
    mesh.scheduler.error = Unavailable("away")
    with pytest.raises(Unavailable):
        await mesh.ask(ask())
    await mesh.background.drain()
    [flight] = mesh.cache.flights.values()
    assert flight.gone


async def test_an_answer_that_is_not_kept_still_ends_the_flight(mesh: Mesh) -> None:
    mesh.scheduler.steps[-1] = Finished(FinishReason.LENGTH, USAGE)
    await mesh.ask(ask())
    assert mesh.cache.flights == {}
    assert mesh.cache.kept == []
    assert "".join(mesh.cache.published) == "Paris."


async def test_publishing_that_fails_hurts_nobody(mesh: Mesh, monkeypatch: pytest.MonkeyPatch) -> None:
    async def failing(*args: object) -> None:
        raise Unavailable("away")

    monkeypatch.setattr(mesh.cache, "publish", failing)
    assert (await mesh.ask(ask())).text == "Paris."
    assert mesh.cache.kept[0].found.lease == b"lease 1"


@pytest.mark.parametrize(
    "prompt",
    [
        ask(cache_control=CacheControl(no_cache=True)),
        ask(cache_control=CacheControl(no_store=True)),
        ask(cache_control=CacheControl(max_age=timedelta(0))),
        ask(sampling=sampled(temperature=0.5)),
    ],
)
async def test_who_may_not_share_claims_nothing(mesh: Mesh, prompt: Prompt) -> None:
    await mesh.ask(prompt)
    assert mesh.cache.leases == 0


async def test_a_policy_without_caches_claims_nothing(mesh: Mesh) -> None:
    mesh.set_policy(cache_enabled=False)
    await mesh.ask(ask())
    assert (mesh.cache.leases, mesh.cache.calls) == (0, 0)


async def test_an_answer_that_ends_soon_is_made_anew_behind_a_hit(mesh: Mesh) -> None:
    first = await mesh.ask(ask())
    mesh.cache.refresh_lease = True
    mesh.scheduler.steps[1] = Chunk("Still Par")
    hit = await mesh.ask(ask())
    assert (hit.text, hit.level) == (first.text, CacheLevel.EXACT)
    request_id, job = mesh.scheduler.jobs[-1]
    assert request_id == f"{hit.decision.request_id}-refresh"
    assert (job.model, job.tags) == ("small", {"farthing-purpose": "refresh"})
    assert mesh.cache.kept[-1].answer.text == "Still Paris."


async def test_what_is_made_anew_while_it_is_invalidated_is_kept_nowhere(mesh: Mesh) -> None:
    mesh.line.now = 1
    old = await mesh.ask(ask())
    mesh.forget_near()
    mesh.cache.refresh_lease = True
    mesh.scheduler.pause_after = 2
    hit = await collected(mesh)  # the refresh has begun behind it
    assert hit.text == old.text
    await mesh.scheduler.paused.wait()
    mesh.near.forget("acme")
    mesh.cache.epochs["acme"] += 1
    mesh.cache.refresh_lease, mesh.scheduler.pause_after = False, None
    mesh.scheduler.steps[1] = Chunk("After the invalidation: Par")
    mesh.scheduler.go_on.set()
    await mesh.refreshing.drain()
    await mesh.background.drain()
    assert len(mesh.near) == 0
    assert (await mesh.ask(ask())).text == "After the invalidation: Paris."


async def test_a_stream_that_pauses_is_published_as_far_as_it_got(mesh: Mesh) -> None:
    mesh.scheduler.steps = [Started("p", "INT4"), Chunk("é"), Chunk("ü"), Finished(FinishReason.STOP, USAGE)]
    leader = await leading(mesh, after=3)
    await until_published(mesh, "éü")
    await leaves(mesh, leader)


async def test_a_refusal_stays_in_no_memory(mesh: Mesh) -> None:
    mesh.line.now = 1
    mesh.cache.worthless = True
    await mesh.ask(ask())
    assert len(mesh.near) == 0


async def test_closing_an_answer_gives_the_lease_up(mesh: Mesh) -> None:
    async with aclosing(mesh.gateway.answer("fk_acme", ask())) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    await mesh.background.drain()
    [flight] = mesh.cache.flights.values()
    assert flight.gone
