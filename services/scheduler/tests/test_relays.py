"""The streams of one replica: order, bounds, silence, outages."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from farthing.scheduler.v1.scheduler_service_pb2 import GenerateRequest
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit.errors import FarthingError, QueueUnavailable
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.server import tenant_context
from farthing_scheduler.app.relays import Relay, Relays
from farthing_scheduler.domain.errors import in_progress, queue_unavailable
from farthing_scheduler.domain.job import Chunk, Job, Reply, Started

R = ErrorReason


@pytest.fixture
def relays(clock: VirtualClock) -> Relays:
    return Relays(clock, reply_limit=3, silence_s=10, outage_s=2)


def job(name: str) -> Job:
    """A job whose id is `name`."""
    now = datetime.now(UTC)
    return Job(name, tenant_context(), GenerateRequest(), now, now, "")


def text(sequence: int, attempt: int = 1) -> Reply:
    """A reply with a word in it."""
    return Reply(attempt, sequence, chunk=Chunk(f"{sequence} ", sequence, 7))


def started(attempt: int) -> Reply:
    """The first reply of an attempt."""
    return Reply(attempt, 1, started=Started(f"pool {attempt}", "INT4"))


async def error_of(relay: Relay) -> FarthingError:
    """What a relay ends with, once what waits is read."""
    with pytest.raises(FarthingError) as caught:
        await _read(relay)
    return caught.value


async def _read(relay: Relay) -> None:
    async with asyncio.timeout(5):
        while True:
            await relay.next()


async def test_what_came_before_an_error_is_still_read(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        relays.put("q_1", text(1))
        relays.put("q_1", Reply(1, 2, error=QueueUnavailable("no")))

        assert (await relay.next()).chunk == Chunk("1 ", 1, 7)
        assert isinstance(await error_of(relay), QueueUnavailable)
        assert not relay.claim_cancel()


async def test_text_that_comes_with_an_error_is_still_read(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        relays.put("q_1", Reply(1, 1, chunk=Chunk("1 ", 1, 7), error=QueueUnavailable("no")))

        assert (await relay.next()).chunk == Chunk("1 ", 1, 7)
        assert isinstance(await error_of(relay), QueueUnavailable)


async def test_a_reader_that_does_not_read_loses_its_stream_only(relays: Relays) -> None:
    with relays.open(job("q_1")) as slow, relays.open(job("q_2")) as quick:
        for number in range(1, 6):
            relays.put("q_1", text(number))
        relays.put("q_2", text(1))

        assert (await error_of(slow)).reason == R.ERROR_REASON_OVERLOADED
        assert (await quick.next()).sequence == 1
        assert [relay.job_id for relay in relays.check()] == ["q_1"]
        assert not slow.was_told_failure


async def test_the_caller_is_told_once_where_its_job_runs(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        relays.put("q_1", started(1))
        assert relays.permit("q_1", 2)
        relays.put("q_1", started(2))
        relays.put("q_1", text(2, attempt=2))

        replies = [await relay.next() for _ in range(3)]
        assert [reply.started for reply in replies] == [Started("pool 1", "INT4"), None, None]
        assert replies[2].chunk is not None


async def test_a_later_attempt_is_not_permitted_once_there_is_text(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        relays.put("q_1", text(1))

        assert not relays.permit("q_1", 2)
        assert (await error_of(relay)).reason == R.ERROR_REASON_WORKER_LOST
        assert relay.claim_cancel()
        assert relay.was_told_failure


async def test_an_earlier_attempt_that_wakes_up_is_not_permitted_and_does_no_harm(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        relays.put("q_1", started(1))
        assert relays.permit("q_1", 1)
        assert relays.permit("q_1", 2)
        assert not relays.permit("q_1", 1)
        relays.put("q_1", text(1, attempt=2))

        assert [(await relay.next()).attempt for _ in range(2)] == [1, 2]
        assert not relay.has_failed


async def test_nobody_is_permitted_to_run_for_a_stream_that_is_gone(relays: Relays) -> None:
    with relays.open(job("q_1")):
        pass

    assert not relays.permit("q_1", 2)


async def test_a_silent_worker_is_lost_and_a_waiting_job_is_not(clock: VirtualClock, relays: Relays) -> None:
    with relays.open(job("q_1")) as silent, relays.open(job("q_2")) as alive, relays.open(job("q_3")) as waiting:
        relays.put("q_1", text(1))
        relays.put("q_2", text(1))
        await clock.advance(6)
        relays.put("q_2", Reply(1, 1))
        await clock.advance(6)

        assert relays.check() == [silent]
        assert (await error_of(silent)).reason == R.ERROR_REASON_WORKER_LOST
        assert not alive.has_failed
        assert not waiting.has_failed
        assert relays.check() == []


async def test_an_outage_ends_what_cannot_be_heard(clock: VirtualClock, relays: Relays) -> None:
    with relays.open(job("q_1")) as taken, relays.open(job("q_2")) as waiting, relays.open(job("q_3")) as near:
        relays.put("q_1", text(1))
        relays.put("q_3", text(1))
        relays.connection_lost()
        await clock.advance(1.5)
        assert relays.check() == []
        relays.put("q_3", text(2))  # from a worker in this process
        await clock.advance(1)
        relays.check()

        assert (await error_of(taken)).reason == R.ERROR_REASON_WORKER_LOST
        assert (await error_of(waiting)).reason == R.ERROR_REASON_QUEUE_UNAVAILABLE
        assert not near.has_failed


@pytest.mark.parametrize("queue_is_empty", [True, False])
async def test_only_a_queue_that_forgot_them_ends_waiting_jobs(relays: Relays, queue_is_empty: bool) -> None:
    with relays.open(job("q_1")) as waiting, relays.open(job("q_2")) as taken, relays.open(job("q_3")) as new:
        relays.put("q_2", text(1))
        relays.connection_lost()
        new.life = 1
        relays.connection_back(1, queue_is_empty=queue_is_empty)

        assert waiting.has_failed is queue_is_empty
        assert not taken.has_failed
        assert not new.has_failed


@pytest.mark.parametrize(
    ("is_certain", "must_cancel"),
    [(True, False), (False, True)],
)
async def test_a_refused_job_is_cancelled_only_if_it_may_be_queued(
    relays: Relays, is_certain: bool, must_cancel: bool
) -> None:
    with relays.open(job("q_1")) as relay:
        relay.refuse(in_progress("q_1") if is_certain else queue_unavailable("is slow"), is_certain=is_certain)

        assert relay.has_failed
        assert relay.claim_cancel() is must_cancel


async def test_a_worker_s_word_counts_more_than_the_queue_s_silence(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        relays.put("q_1", text(1))
        relay.refuse(queue_unavailable("is slow"), is_certain=False)

        assert not relay.has_failed


async def test_a_reader_that_waits_wakes_up(relays: Relays) -> None:
    with relays.open(job("q_1")) as relay:
        reading = asyncio.ensure_future(relay.next())
        await _settled(lambda: relays.put("q_1", text(1)))

        assert (await reading).sequence == 1


async def _settled(then: Callable[[], None]) -> None:
    await asyncio.sleep(0)
    then()
