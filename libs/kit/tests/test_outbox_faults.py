"""The outbox when something refuses: a record, a stream, a server, a disk, the process. Nothing accepted is lost, and
nobody waits for another's record."""

from __future__ import annotations

import asyncio
import errno
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from nats.js import JetStreamContext

from farthing_kit import nats, outbox, record_batch
from farthing_kit.errors import InvalidArgument, QueueUnavailable
from farthing_kit.journal import Journal, Record
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec
from farthing_kit.outbox import Outbox, open_outbox
from farthing_kit.telemetry import Telemetry
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.clock import VirtualClock
from farthing_kit.testing.waiting import until

USAGE = nats.Stream(name="USAGE", subjects=["usage.>"], max_bytes=64 * 1024 * 1024)


@asynccontextmanager
async def opened(
    folder: Path, url: str, telemetry: Telemetry | None = None, *, stream: nats.Stream = USAGE, **options: object
) -> AsyncIterator[tuple[Outbox, JetStreamContext]]:
    async with nats.connect(url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(js, stream)
        async with open_outbox(folder, js, telemetry or Telemetry("test"), **options) as made:  # type: ignore[arg-type]
            yield made, js


async def ids_in_stream(js: JetStreamContext) -> list[str]:
    info = await js.stream_info(USAGE.name)
    found: list[str] = []
    for sequence in range(info.state.first_seq, info.state.last_seq + 1) if info.state.messages else ():
        headers = (await js.get_msg(USAGE.name, sequence)).headers
        assert headers is not None
        found.append(headers["Nats-Msg-Id"])
    return found


def left_by_a_former_process(folder: Path, *records: Record) -> None:
    journal = Journal(folder, max_bytes=10_000_000, segment_bytes=1_000_000)
    journal.open()
    for record in records:
        journal.append(record)
    journal.close()


def small(number: int) -> Record:
    return Record(f"q_{number}", "usage.acme", b"x")


SMALL_IDS = [f"q_{number}" for number in range(5)]

# ------------------------------------------------------------------------------------------- records that are refused


async def test_a_record_larger_than_the_stream_takes_blocks_nobody_and_is_delivered_once_it_fits(
    tmp_path: Path, nats_url: str
) -> None:
    telemetry = Telemetry("test")
    narrow = replace(USAGE, max_message_bytes=1_000)
    async with opened(tmp_path, nats_url, telemetry, stream=narrow) as (made, js):
        await made.append("q_large", "usage.acme", b"x" * 2_000)
        for record_id in SMALL_IDS:
            await made.append(record_id, "usage.acme", b"x")
        assert await made.flushed()
        assert sorted(await ids_in_stream(js)) == SMALL_IDS
        assert made.set_aside == 1
        assert not made.whole()
        assert telemetry.metrics.value(MetricName.OUTBOX_SET_ASIDE) == 1
        await made.append("q_large", "usage.acme", b"x" * 2_000)  # is accepted once
        assert made.pending == 0
    async with opened(tmp_path, nats_url, stream=narrow) as (made, js):
        await made.append("q_5", "usage.acme", b"x")
        assert await made.flushed()
        await until(lambda: made.set_aside == 1)
    async with opened(tmp_path, nats_url) as (made, js):
        await until(lambda: made.set_aside == 0)
        assert made.whole()
        assert sorted(await ids_in_stream(js)) == [*SMALL_IDS, "q_5", "q_large"]


@pytest.mark.parametrize(
    "poison",
    [
        Record("q_bad", "usage.acme", b"x" * 70_000),
        Record("q_bad", "usage.with space", b"x"),
        Record("q_bad", "", b"x"),
    ],
    ids=["larger than the server takes", "a bad subject", "no subject"],
)
async def test_what_the_server_cannot_be_sent_blocks_nobody(tmp_path: Path, nats_url: str, poison: Record) -> None:
    left_by_a_former_process(tmp_path, poison, *map(small, range(5)))
    async with nats.connect(nats_url, name="test") as client:
        client._max_payload = 64 * 1024  # as a server says that was configured so
        await nats.ensure_stream(client.jetstream(), USAGE)
        async with open_outbox(tmp_path, client.jetstream(), Telemetry("test")) as made:
            assert await made.flushed()
            assert made.set_aside == 1
            assert sorted(await ids_in_stream(client.jetstream())) == SMALL_IDS
            with pytest.raises(InvalidArgument, match="takes 64512"):
                await made.append("q_large", "usage.acme", b"x" * 64_513)


async def test_what_is_refused_again_and_again_while_others_go_through_is_set_aside(
    tmp_path: Path, nats_url: str
) -> None:
    async with opened(tmp_path, nats_url) as (made, js):
        await made.append("q_nowhere", "nobody.listens", b"x")
        sent = 0
        while not made.set_aside:
            await made.append(f"q_{sent}", "usage.acme", b"x")
            sent += 1
            await until(lambda: made.pending <= 1)
        assert sent >= outbox.MAX_REFUSALS
        assert sorted(await ids_in_stream(js)) == sorted(f"q_{number}" for number in range(sent))


async def test_a_full_stream_is_waited_for_with_nothing_set_aside(tmp_path: Path, nats_url: str) -> None:
    async with opened(tmp_path, nats_url, stream=replace(USAGE, max_messages=3)) as (made, js):
        for record_id in SMALL_IDS:
            await made.append(record_id, "usage.acme", b"x")
        await until(lambda: made.pending == 2)
        assert not await made.flushed(0.5)
        assert made.set_aside == 0
        await js.purge_stream(USAGE.name)
        assert await made.flushed(10)


async def test_a_full_stream_holds_up_no_other_and_its_records_are_not_refused_for_good(
    tmp_path: Path, nats_url: str
) -> None:
    async with opened(tmp_path, nats_url) as (made, js):
        full = nats.Stream(name="OTHER", subjects=["other"], max_bytes=1024 * 1024, max_messages=1)
        await nats.ensure_stream(js, full)
        await js.publish("other", b"x")
        await made.append("q_waits", "other", b"x")
        for number in range(2 * outbox.MAX_REFUSALS):
            await made.append(f"q_{number}", "usage.acme", b"x")
            await until(lambda: made.pending == 1)
        assert made.set_aside == 0
        await js.purge_stream("OTHER")
        assert await made.flushed(10)


async def test_refused_records_that_find_no_room_apart_stay_and_block_nobody(
    tmp_path: Path, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MAX_REFUSED_BYTES", 10)
    async with opened(tmp_path, nats_url, stream=replace(USAGE, max_message_bytes=1_000), flush_timeout_s=0) as (
        made,
        js,
    ):
        await made.append("q_large", "usage.acme", b"x" * 2_000)
        for record_id in SMALL_IDS:
            await made.append(record_id, "usage.acme", b"x")
        await until(lambda: made.pending == 1)
        assert made.set_aside == 0
        assert sorted(await ids_in_stream(js)) == SMALL_IDS


@pytest.mark.parametrize(
    ("message_id", "subject"),
    [
        ("", "usage.acme"),
        ("q 1", "usage.acme"),
        ("q_1\r\nNats-Rollup: all", "usage.acme"),
        ("q" * 300, "usage.acme"),
        ("q_1", ""),
        ("q_1", "usage.a cme"),
        ("q_1", "usage."),
        ("q_1", "usage.*"),
        ("q_1", "usage.>"),
        ("q_1", "usage." + "a" * 300),
    ],
)
async def test_what_no_server_would_take_is_refused_at_once(
    tmp_path: Path, nats_url: str, message_id: str, subject: str
) -> None:
    async with opened(tmp_path, nats_url) as (made, _):
        with pytest.raises(InvalidArgument):
            await made.append(message_id, subject, b"x")
        assert made.pending == 0


# --------------------------------------------------------------------------------------------- disks that refuse


async def reports(made: Outbox, clock: VirtualClock) -> tuple[dict[str, bool], Callable[[], None]]:
    seen: dict[str, bool] = {}

    async def report(dependency: str, up: bool, *, required: bool) -> None:
        assert not required
        seen[dependency] = up

    watch = asyncio.ensure_future(made.watch(report, clock))
    await clock.advance(0)

    def stop() -> None:
        watch.cancel()

    return seen, stop


def fill(ballast: Path) -> None:
    """Write until the disk is full."""
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


async def test_a_full_disk_is_refused_told_to_health_and_recovered_from(
    tmp_path: Path, nats_url: str, small_disk: Path
) -> None:
    clock = VirtualClock()
    async with opened(small_disk / "outbox", nats_url) as (made, js):
        health, stop = await reports(made, clock)
        assert health == {"outbox": True, "outbox-records": True}
        ballast = small_disk / "ballast"
        fill(ballast)
        with pytest.raises(QueueUnavailable):
            await made.append("q_1", "usage.acme", b"x" * 5_000)
        await clock.advance(outbox.WATCH_S)
        assert health["outbox"] is False
        ballast.unlink()
        await clock.advance(outbox.WATCH_S)
        assert health["outbox"] is True
        await made.append("q_1", "usage.acme", b"x" * 5_000)
        assert await made.flushed()
        assert await ids_in_stream(js) == ["q_1"]
        stop()


def hurt(folder: Path) -> None:
    """Flip a bit in the second of five records."""
    (segment,) = folder.glob("*.journal")
    raw = bytearray(segment.read_bytes())
    raw[len(raw) * 3 // 10] ^= 1
    segment.write_bytes(raw)


def looked_at(folder: Path) -> None:
    """As a person does who has seen what there is to see."""
    (damaged,) = folder.glob("*.damaged")
    damaged.unlink()


async def test_damage_is_told_to_health_and_metrics_until_somebody_has_looked(tmp_path: Path, nats_url: str) -> None:
    left_by_a_former_process(tmp_path, *map(small, range(5)))
    hurt(tmp_path)
    telemetry = Telemetry("test")
    async with opened(tmp_path, nats_url, telemetry) as (made, js):
        assert await made.flushed()
        assert await ids_in_stream(js) == ["q_0", "q_2", "q_3", "q_4"]
        assert telemetry.metrics.value(MetricName.OUTBOX_DAMAGED) == 1
        health, stop = await reports(made, VirtualClock())
        assert health == {"outbox": True, "outbox-records": False}
        assert telemetry.metrics.value(MetricName.OUTBOX_DAMAGED_FILES) == 1
        stop()
    looked_at(tmp_path)
    async with opened(tmp_path, nats_url) as (made, _):
        assert made.whole()


async def test_what_could_not_be_synced_is_refused_and_never_published(
    tmp_path: Path, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    async with opened(tmp_path, nats_url, fsync=True) as (made, js):
        await made.append("q_1", "usage.acme", b"x")
        assert await made.flushed()
        with monkeypatch.context() as patched:
            patched.setattr("farthing_kit.journal.os.fsync", fails)
            answers = await asyncio.gather(
                *(made.append(f"q_lost_{n}", "usage.acme", b"x") for n in range(5)), return_exceptions=True
            )
            assert [type(answer) for answer in answers] == [QueueUnavailable] * 5
        assert made.accepts()
        await made.append("q_2", "usage.acme", b"x")
        assert await made.flushed()
        assert await ids_in_stream(js) == ["q_1", "q_2"]


# ------------------------------------------------------------------------------------------- outages and deaths


async def test_an_outage_longer_than_every_timeout_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record_batch, "PUBLISH_TIMEOUT_S", 0.05)
    monkeypatch.setattr(outbox, "BACKOFF_S", (0.01, 0.02))
    attempts = 0
    pause = Outbox._pause

    async def counted(self: Outbox, error: BaseException) -> None:
        nonlocal attempts
        attempts += 1
        await pause(self, error)

    monkeypatch.setattr(Outbox, "_pause", counted)
    server = Nats(tmp_path / "nats", log=tmp_path / "nats.log")
    await server.start()
    try:
        async with opened(tmp_path / "outbox", server.url, flush_timeout_s=20) as (made, js):
            await made.append("q_0", "usage.acme", b"x")
            assert await made.flushed()
            server.process.kill()
            for number in range(1, 300):
                await made.append(f"q_{number}", "usage.acme", b"x" * 200)
            await until(lambda: attempts >= 20)
            assert made.pending == 299
            assert made.set_aside == 0
            await server.start()
            monkeypatch.setattr(record_batch, "PUBLISH_TIMEOUT_S", 2.0)
            assert await made.flushed(20)
            found = await ids_in_stream(js)
    finally:
        await server.stop()
    assert sorted(found) == sorted(f"q_{number}" for number in range(300))


DOOMED = """
import asyncio, os, signal, sys
from pathlib import Path
from farthing_kit import nats
from farthing_kit.outbox import Outbox, open_outbox
from farthing_kit.telemetry import Telemetry

folder, url, moment = sys.argv[1:]

def dies(*_):
    os.kill(os.getpid(), signal.SIGKILL)

setattr(Outbox, moment, dies)

async def main() -> None:
    async with nats.connect(url, name="doomed") as client:
        async with open_outbox(Path(folder), client.jetstream(), Telemetry("doomed")) as outbox:
            for number in range(20):
                await outbox.append(f"q_{number}", "usage.acme", b"x")
            print("appended", flush=True)
            await outbox.flushed()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("moment", "published"),
    [("_next_batch", 0), ("_acknowledge", 20)],
    ids=["between write and publish", "between publish and advance"],
)
async def test_a_kill_loses_and_doubles_nothing(tmp_path: Path, nats_url: str, moment: str, published: int) -> None:
    async with nats.connect(nats_url, name="test") as client:
        await nats.ensure_stream(client.jetstream(), USAGE)
        log = tmp_path / "doomed.log"
        argv = [sys.executable, "-c", DOOMED, str(tmp_path / "outbox"), nats_url, moment]
        child = ChildProcess(Spec("doomed", argv, log))
        child.spawn()
        await until(lambda: not child.running, timeout_s=30)
        assert child.exit_code == -signal.SIGKILL
        assert "appended" in log.read_text()
        assert len(await ids_in_stream(client.jetstream())) == published
    async with opened(tmp_path / "outbox", nats_url) as (made, js):
        assert await made.flushed()
        assert sorted(await ids_in_stream(js)) == sorted(f"q_{number}" for number in range(20))


async def test_a_publisher_that_dies_says_so_and_nothing_more_is_accepted(
    tmp_path: Path, nats_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(_: Outbox) -> list[Record]:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(Outbox, "_next_batch", breaks)
    deaths: list[BaseException] = []
    async with opened(tmp_path, nats_url, died=deaths.append, flush_timeout_s=0) as (made, _):
        await made.append("q_1", "usage.acme", b"x")
        await until(lambda: bool(deaths))
        with pytest.raises(QueueUnavailable):
            await made.append("q_2", "usage.acme", b"x")
        assert not made.accepts()
    assert [type(death) for death in deaths] == [RuntimeError]
    monkeypatch.undo()
    async with opened(tmp_path, nats_url) as (made, js):
        assert await made.flushed()
        assert await ids_in_stream(js) == ["q_1"]
