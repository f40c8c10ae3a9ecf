"""Jobs on their way through the queue."""

from __future__ import annotations

from datetime import timedelta

import pytest

from farthing.scheduler.v1.job_pb2 import Job as JobMessage
from farthing.scheduler.v1.scheduler_service_pb2 import GenerateRequest
from farthing_kit.context import CLOCK_SLACK_S, ContextSigner
from farthing_kit.errors import ContextInvalid
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.server import tenant_context
from farthing_kit.testing.settings import TEST_SECRET
from farthing_scheduler.domain.job import Job
from farthing_scheduler.wire import job_from_bytes, job_to_bytes

PATH = "/farthing.scheduler.v1.SchedulerService/Generate"
WAITS_S = 300.0


def job(clock: VirtualClock) -> Job:
    return Job(
        id="j_1",
        context=tenant_context("acme"),
        request=GenerateRequest(model="m"),
        deadline=clock.now() + timedelta(seconds=WAITS_S),
        enqueued=clock.now(),
        reply_subject="farthing.replies.i.q_1",
    )


async def test_the_context_of_a_job_lives_as_long_as_the_job_may_wait() -> None:
    clock = VirtualClock()
    signer = ContextSigner(TEST_SECRET, clock=clock)
    made = job(clock)
    waiting = job_to_bytes(made, signer)
    await clock.advance(WAITS_S)
    assert job_from_bytes(waiting, signer) == made
    await clock.advance(CLOCK_SLACK_S + 1)
    with pytest.raises(ContextInvalid, match="expired"):
        job_from_bytes(waiting, signer)


def test_the_context_of_a_job_is_good_for_no_call_and_that_of_a_call_for_no_job() -> None:
    clock = VirtualClock()
    signer = ContextSigner(TEST_SECRET, clock=clock)
    taken_from_the_queue = JobMessage.FromString(job_to_bytes(job(clock), signer))
    with pytest.raises(ContextInvalid, match="another call"):
        signer.verify(taken_from_the_queue.signed_context, PATH)
    taken_from_the_queue.signed_context = signer.sign(tenant_context("acme"), PATH)
    with pytest.raises(ContextInvalid, match="another call"):
        job_from_bytes(taken_from_the_queue.SerializeToString(), signer)
