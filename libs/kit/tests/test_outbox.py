"""The outbox: nothing accepted is lost, nothing is in the stream twice."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.js import JetStreamContext

from farthing_kit import nats, outbox
from farthing_kit.errors import InvalidArgument, QueueUnavailable
from farthing_kit.journal import Journal, JournalFull, JournalLocked, Record
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec
from farthing_kit.outbox import Outbox, open_outbox
from farthing_kit.telemetry import Telemetry, tracing
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.server import Spans

USAGE = nats.Stream(name="USAGE", subjects=["usage.>"], max_bytes=64 * 1024 * 1024)


def journal(folder: Path, max_bytes: int = 1_000_000, segment_bytes: int = 400) -> Journal:
    return Journal(folder, max_bytes=max_bytes, segment_bytes=segment_bytes)


def record(number: int) -> Record:
    return Record(f"q_{number}", "usage.acme", f"payload {number}".encode(), "trace")


def test_what_was_appended_and_not_acknowledged_is_there_after_reopening(tmp_path: Path) -> None:
    first = journal(tmp_path)
    first.open()
    for number in range(20):
        first.append(record(number))
    for number in (0, 1, 2, 3, 7, 19):
        first.acknowledge(f"q_{number}")
    first.close()
    left = [number for number in range(20) if number not in (0, 1, 2, 3, 7, 19)]
    assert journal(tmp_path).open() == [record(number) for number in left]


def test_an_empty_journal_takes_no_room_and_brings_nothing_back(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.open()
    for number in range(50):
        made.append(record(number))
    for number in reversed(range(50)):
        made.acknowledge(f"q_{number}")
    assert (made.size, made.pending) == (0, 0)
    made.close()
    assert journal(tmp_path).open() == []


def test_a_finished_segment_is_deleted_while_later_ones_are_pending(tmp_path: Path) -> None:
    made = journal(tmp_path)
    made.open()
    for number in range(30):
        made.append(record(number))
    before = len(list(tmp_path.glob("*.journal")))
    for number in range(20):
        made.acknowledge(f"q_{number}")
    assert len(list(tmp_path.glob("*.journal"))) < before
    made.close()
    assert [r.id for r in journal(tmp_path).open()] == [f"q_{number}" for number in range(20, 30)]


@pytest.mark.parametrize("lost", [1, 5, 9, 20])
def test_a_torn_last_record_is_cut_off_and_the_rest_kept(tmp_path: Path, lost: int) -> None:
    made = journal(tmp_path, segment_bytes=100_000)
    made.open()
    for number in range(5):
        made.append(record(number))
    made.close()
    segment = next(tmp_path.glob("*.journal"))
    segment.write_bytes(segment.read_bytes()[:-lost])
    again = journal(tmp_path, segment_bytes=100_000)
    assert again.open() == [record(number) for number in range(4)]
    again.append(record(9))
    again.close()
    assert [r.id for r in journal(tmp_path).open()] == ["q_0", "q_1", "q_2", "q_3", "q_9"]


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    made = journal(tmp_path, segment_bytes=100_000)
    made.open()
    made.append(record(1))
    made.append(record(2))
    made.close()
    segment = next(tmp_path.glob("*.journal"))
    raw = bytearray(segment.read_bytes())
    raw[-1] ^= 1
    segment.write_bytes(raw)
    assert journal(tmp_path).open() == [record(1)]


def test_a_full_journal_refuses_and_stays_whole(tmp_path: Path) -> None:
    made = journal(tmp_path, max_bytes=300)
    made.open()
    accepted = 0
    while made.size < 260:
        made.append(record(accepted))
        accepted += 1
    with pytest.raises(JournalFull):
        made.append(record(accepted))
    made.close()
    assert len(journal(tmp_path).open()) == accepted > 0


def test_two_processes_cannot_share_a_folder(tmp_path: Path) -> None:
    held = journal(tmp_path)
    held.open()
    with pytest.raises(JournalLocked):
        journal(tmp_path).open()
    held.close()
    again = journal(tmp_path)
    again.open()
    again.close()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 15)), max_size=80))
def test_any_history_replays_to_what_was_pending(
    tmp_path_factory: pytest.TempPathFactory, history: list[tuple[bool, int]]
) -> None:
    folder = tmp_path_factory.mktemp("history")
    made = journal(folder, segment_bytes=150)
    made.open()
    expected: dict[str, Record] = {}
    for put, number in history:
        if put and record(number).id not in made:
            made.append(record(number))
            expected[record(number).id] = record(number)
        elif not put:
            made.acknowledge(record(number).id)
            expected.pop(record(number).id, None)
    made.close()
    again = journal(folder)
    assert again.open() == list(expected.values())
    again.close()


@asynccontextmanager
async def opened(
    folder: Path, url: str, telemetry: Telemetry, **options: object
) -> AsyncIterator[tuple[Outbox, JetStreamContext]]:
    async with nats.connect(url, name="test", telemetry=telemetry) as client:
        js = client.jetstream()
        await nats.ensure_stream(js, USAGE)
        async with open_outbox(folder, js, telemetry, **options) as made:  # type: ignore[arg-type]
            yield made, js


async def ids_in_stream(js: JetStreamContext) -> list[str]:
    info = await js.stream_info(USAGE.name)
    found = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1):
        message = await js.get_msg(USAGE.name, sequence)
        assert message.headers is not None
        found.append(message.headers["Nats-Msg-Id"])
    return found


async def test_messages_reach_the_stream_once_and_the_journal_empties(tmp_path: Path, nats_url: str) -> None:
    telemetry = Telemetry("test")
    async with opened(tmp_path, nats_url, telemetry) as (made, js):
        await asyncio.gather(*(made.append(f"q_{n}", "usage.acme", b"x") for n in range(200)))
        await made.append("q_7", "usage.acme", b"x")
        assert await made.flushed()
        assert sorted(await ids_in_stream(js)) == sorted(f"q_{n}" for n in range(200))
        assert telemetry.metrics.value(MetricName.OUTBOX_PENDING) == 0
        assert telemetry.metrics.value(MetricName.OUTBOX_BYTES) == 0


async def test_a_stream_without_atomic_batches_gets_its_messages_one_by_one(tmp_path: Path, nats_url: str) -> None:
    async with nats.connect(nats_url, name="test") as client:
        await nats.ensure_stream(client.jetstream(), replace(USAGE, atomic=False))
        async with open_outbox(tmp_path, client.jetstream(), Telemetry("test")) as made:
            for n in range(50):
                await made.append(f"q_{n}", "usage.acme", b"x")
            assert await made.flushed()
        assert sorted(await ids_in_stream(client.jetstream())) == sorted(f"q_{n}" for n in range(50))


async def test_a_batch_that_holds_a_known_id_is_sorted_out(tmp_path: Path, nats_url: str) -> None:
    async with opened(tmp_path, nats_url, Telemetry("test")) as (made, js):
        await js.publish("usage.acme", b"x", headers={"Nats-Msg-Id": "q_3"})
        for n in range(20):
            await made.append(f"q_{n}", "usage.acme", b"x")
        assert await made.flushed()
        found = await ids_in_stream(js)
        assert sorted(found) == sorted(f"q_{n}" for n in range(20))


async def test_a_message_continues_the_trace_it_was_written_in(tmp_path: Path, nats_url: str) -> None:
    telemetry = Spans().telemetry("test")
    async with opened(tmp_path, nats_url, telemetry) as (made, js):
        with telemetry.span("usage.publish") as span:
            for n in range(2):
                await made.append(f"q_{n}", "usage.acme", b"x")
        assert await made.flushed()
        headers = (await js.get_msg(USAGE.name, 2)).headers
        assert headers is not None
        assert headers["traceparent"] == tracing.encode(span.get_span_context())


async def test_with_fsync_appends_share_commits(tmp_path: Path, nats_url: str) -> None:
    async with opened(tmp_path, nats_url, Telemetry("test"), fsync=True) as (made, js):
        await asyncio.gather(*(made.append(f"q_{n}", "usage.acme", b"x") for n in range(50)))
        assert await made.flushed()
        assert len(await ids_in_stream(js)) == 50


async def test_a_full_outbox_refuses_explicitly(tmp_path: Path, nats_url: str) -> None:
    telemetry = Telemetry("test")
    async with (
        nats.connect(nats_url, name="test") as client,  # no stream: nothing is ever acknowledged
        open_outbox(tmp_path, client.jetstream(), telemetry, max_bytes=2_000, flush_timeout_s=0) as made,
    ):
        for number in range(10):
            await made.append(f"q_{number}", "nobody.listens", b"x" * 100)
        with pytest.raises(QueueUnavailable) as refusal:
            await made.append("q_big", "nobody.listens", b"x" * 1_000)
        assert refusal.value.retry_after_s
        assert made.pending == 10
        assert telemetry.metrics.value(MetricName.OUTBOX_REFUSED) == 1
        with pytest.raises(InvalidArgument):
            await made.append("big", "nobody.listens", b"x" * (outbox.MAX_RECORD_BYTES + 1))


async def test_a_broker_that_is_killed_again_and_again_loses_and_doubles_nothing(tmp_path: Path) -> None:
    server = Nats(tmp_path / "nats", log=tmp_path / "nats.log")
    await server.start()
    telemetry = Telemetry("test")
    try:
        async with opened(tmp_path / "outbox", server.url, telemetry, flush_timeout_s=20) as (made, js):
            for kill in range(4):
                for number in range(100):
                    await made.append(f"q_{kill}_{number}", "usage.acme", b"x" * 200)
                server.process.kill()
                for number in range(100, 150):
                    await made.append(f"q_{kill}_{number}", "usage.acme", b"x" * 200)
                await server.start()
            assert await made.flushed(20)
            found = await ids_in_stream(js)
    finally:
        await server.stop()
    assert len(found) == len(set(found))
    assert set(found) == {f"q_{kill}_{number}" for kill in range(4) for number in range(150)}


WRITER = """
import asyncio, sys
from pathlib import Path
from farthing_kit import nats
from farthing_kit.outbox import open_outbox
from farthing_kit.telemetry import Telemetry, tracing

async def main() -> None:
    async with nats.connect(sys.argv[2], name="writer") as client:
        async with open_outbox(Path(sys.argv[1]), client.jetstream(), Telemetry("writer")) as outbox:
            for number in range(100_000):
                await outbox.append(f"q_{number}", "usage.acme", b"x" * 100)
                print(number, flush=True)
                if number % 10 == 9:
                    await asyncio.sleep(0)

asyncio.run(main())
"""


async def test_a_killed_process_loses_nothing_it_had_accepted(tmp_path: Path, nats_url: str) -> None:
    async with nats.connect(nats_url, name="test") as client:
        await nats.ensure_stream(client.jetstream(), USAGE)
    log = tmp_path / "writer.log"
    child = ChildProcess(Spec("writer", [sys.executable, "-c", WRITER, str(tmp_path / "outbox"), nats_url], log))

    async def wrote_enough() -> bool:
        return log.stat().st_size > 2_000

    await child.start(wrote_enough)
    child.signal(signal.SIGKILL)
    child.kill()
    accepted = [line for line in log.read_text().splitlines() if line.isdigit()][:-1]
    async with opened(tmp_path / "outbox", nats_url, Telemetry("test"), flush_timeout_s=20) as (made, js):
        assert await made.flushed(20)
        found = await ids_in_stream(js)
    assert len(found) == len(set(found))
    assert {f"q_{number}" for number in accepted} <= set(found)
