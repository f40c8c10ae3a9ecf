"""How a worker's replies leave: numbered, and close tokens together."""

from __future__ import annotations

import pytest

from farthing.type.v1.model_pb2 import FinishReason
from farthing_kit.usage import TokenUsage
from farthing_scheduler.app.outgoing import MAX_TEXT, Outgoing
from farthing_scheduler.domain.job import Chunk, Finished, Reply, Started
from services.scheduler.tests.mesh import until

STOP = Finished(FinishReason.FINISH_REASON_STOP, TokenUsage(fresh_input=7, output=3))


class KeptReplies:
    """Keeps what is sent."""

    def __init__(self) -> None:
        self.sent: list[Reply] = []
        self.watched: list[int] = []

    async def send(self, subject: str, reply: Reply, *, is_watched: bool = False) -> None:
        assert subject == "farthing.replies.i.q_1"
        self.sent.append(reply)
        if is_watched:
            self.watched.append(reply.sequence)

    async def ask(self, subject: str, reply: Reply) -> bool | None:
        return reply.sequence == 0


@pytest.fixture
def replies() -> KeptReplies:
    return KeptReplies()


def outgoing(replies: KeptReplies, interval_s: float) -> Outgoing:
    return Outgoing(replies, "farthing.replies.i.q_1", 1, interval_s)


async def test_the_first_text_leaves_at_once_and_the_last_with_the_end(replies: KeptReplies) -> None:
    out = outgoing(replies, interval_s=60)
    await out.started(Started("pool", "INT4"))
    for number in (1, 2, 3):
        await out.chunk(Chunk(f"{number} ", number, 7))
    await out.end(finished=STOP)

    assert [reply.sequence for reply in replies.sent] == [1, 2, 3]
    assert replies.sent[1].chunk == Chunk("1 ", 1, 7)
    assert replies.sent[2] == Reply(1, 3, chunk=Chunk("2 3 ", 3, 7), finished=STOP)
    assert replies.watched == [1]


async def test_text_does_not_wait_for_the_end(replies: KeptReplies) -> None:
    out = outgoing(replies, interval_s=0.001)
    for number in (1, 2, 3):
        await out.chunk(Chunk(f"{number} ", number, 7))

    await until(lambda: "".join(reply.chunk.text for reply in replies.sent if reply.chunk) == "1 2 3 ")
    assert replies.sent[0].chunk == Chunk("1 ", 1, 7)


async def test_no_more_than_so_much_text_waits(replies: KeptReplies) -> None:
    out = outgoing(replies, interval_s=60)
    await out.chunk(Chunk("1 ", 1, 7))
    await out.chunk(Chunk("2" * MAX_TEXT, 2, 7))

    assert len(replies.sent) == 2


async def test_without_an_interval_every_piece_leaves_by_itself(replies: KeptReplies) -> None:
    out = outgoing(replies, interval_s=0)
    for number in (1, 2, 3):
        await out.chunk(Chunk(f"{number} ", number, 7))

    assert [reply.sequence for reply in replies.sent] == [1, 2, 3]


async def test_a_sign_of_life_repeats_the_last_number(replies: KeptReplies) -> None:
    out = outgoing(replies, interval_s=0)
    await out.sign_of_life()
    await out.started(Started("pool", "INT4"))
    await out.sign_of_life()

    assert replies.sent[1:] == [Reply(1, 1)]
    assert replies.watched == [1, 1]


async def test_what_another_attempt_goes_on_with_is_not_sent(replies: KeptReplies) -> None:
    out = outgoing(replies, interval_s=60)
    await out.chunk(Chunk("1 ", 1, 7))
    await out.chunk(Chunk("2 ", 2, 7))
    out.drop()

    assert len(replies.sent) == 1
    assert await out.may_run()
