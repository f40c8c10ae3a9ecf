"""A service's process from its settings to its end, as an operator meets it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from farthing_kit import client
from farthing_kit.config import setting
from farthing_kit.context import ContextSigner
from farthing_kit.errors import FarthingError
from farthing_kit.lifecycle import Process
from farthing_kit.local.process import ChildProcess, Spec
from farthing_kit.settings import ServiceSettings
from farthing_kit.testing.echo import EchoStub, echo_service
from farthing_kit.testing.server import running, tenant_context
from farthing_kit.testing.settings import TEST_SECRET, settings
from farthing_kit.testing.waiting import until

MAIN = """
import asyncio, sys
from dataclasses import dataclass
from google.protobuf.wrappers_pb2 import StringValue
from farthing_kit.config import setting
from farthing_kit.lifecycle import run
from farthing_kit.settings import ServiceSettings
from farthing_kit.testing.echo import echo_service

@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    crash: str = setting("", doc="what goes wrong")

async def build(process):
    async def say(request, context):
        if request.value == "crash":
            process.start("doomed", doomed())
        if request.value == "slow":
            print("slow call", flush=True)
            await asyncio.sleep(0.3)
        return request

    async def doomed():
        raise RuntimeError("secret text")

    async def closed(name):
        print("closed", name, flush=True)

    process.on_close(lambda: closed("first"))
    process.on_close(lambda: closed("second"))
    process.on_drain(lambda: closed("drained"))
    if process.settings.crash == "build":
        raise RuntimeError("secret text")
    process.serve(echo_service(say))

sys.exit(run("echo", Settings, build))
"""


class Service:
    """The program above as a child."""

    def __init__(self, folder: Path, **env: str) -> None:
        secret = folder / "secret"
        secret.write_bytes(TEST_SECRET)
        secret.chmod(0o600)
        common = {"FARTHING_MESH_SECRET_FILE": str(secret), "FARTHING_METRICS_BIND": "127.0.0.1:0"}
        log = folder / "echo.log"
        self.child = ChildProcess(Spec("echo", [sys.executable, "-c", MAIN], log, env={**os.environ, **common, **env}))

    @property
    def lines(self) -> list[str]:
        return self.child.spec.log.read_text().splitlines()

    def ready(self) -> dict[str, int]:
        line = next(line for line in self.lines if line.startswith('{"ready"'))
        found: dict[str, int] = json.loads(line)
        return found

    async def started(self) -> None:
        async def said_so() -> bool:
            return any(line.startswith('{"ready"') for line in self.lines)

        await self.child.start(said_so)

    async def ended(self) -> int:
        await until(lambda: not self.child.running)
        assert self.child.exit_code is not None
        return self.child.exit_code

    def channel(self) -> client.Channel:
        signer = ContextSigner(TEST_SECRET)
        return client.channel(f"127.0.0.1:{self.ready()['port']}", signer=signer, identity=tenant_context())


async def test_a_service_says_when_it_is_ready_drains_on_sigterm_and_closes_in_reverse(tmp_path: Path) -> None:
    service = Service(tmp_path)
    await service.started()
    async with service.channel() as channel:
        slow = asyncio.ensure_future(EchoStub(channel).Say(StringValue(value="slow")))
        await until(lambda: "slow call" in service.lines)
        service.child.signal(signal.SIGTERM)
        assert (await slow).value == "slow"
    assert await service.ended() == 0
    said = [line for line in service.lines if line.startswith("closed")]
    assert said == ["closed drained", "closed second", "closed first"]


async def test_metrics_are_served_on_a_port_of_their_own(tmp_path: Path) -> None:
    service = Service(tmp_path)
    await service.started()
    async with service.channel() as channel:
        await EchoStub(channel).Say(StringValue(value="x"))
    url = f"http://127.0.0.1:{service.ready()['metrics_port']}/metrics"
    page = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=5).read().decode())
    assert 'farthing_rpc_seconds_count{code="OK",method="Say"' in page
    await service.child.stop()
    assert service.child.exit_code == 0


async def test_a_crashed_background_task_ends_the_process_with_code_1_and_without_its_text(tmp_path: Path) -> None:
    service = Service(tmp_path)
    await service.started()
    async with service.channel() as channel:
        await asyncio.gather(EchoStub(channel).Say(StringValue(value="crash")), return_exceptions=True)
        assert await service.ended() == 1
    crash = next(json.loads(line) for line in service.lines if "a background task crashed" in line)
    assert crash["exception"] == "RuntimeError"
    assert crash["task"] == "doomed"
    assert "secret text" not in "\n".join(service.lines)
    assert "closed first" in service.lines


async def test_bad_settings_are_named_on_stderr_and_nothing_starts(tmp_path: Path) -> None:
    service = Service(tmp_path, FARTHING_ECHO_MAX_CONCURRENT="none", FARTHING_LOG_LEVEL="chatty")
    service.child.spawn()
    assert await service.ended() == 2
    report = "\n".join(service.lines)
    assert "FARTHING_ECHO_MAX_CONCURRENT: is 'none'" in report
    assert "FARTHING_LOG_LEVEL: is 'chatty', must be one of DEBUG, INFO, WARNING, ERROR" in report


async def test_a_failing_build_closes_what_was_opened(tmp_path: Path) -> None:
    service = Service(tmp_path, FARTHING_ECHO_CRASH="build")
    service.child.spawn()
    assert await service.ended() == 1
    assert "closed first" in service.lines
    assert "secret text" not in "\n".join(service.lines)


async def test_a_taken_port_gets_one_clear_line(tmp_path: Path) -> None:
    holder = await asyncio.start_server(lambda r, w: None, "127.0.0.1", 0)
    port = holder.sockets[0].getsockname()[1]
    service = Service(tmp_path, FARTHING_BIND=f"127.0.0.1:{port}")
    service.child.spawn()
    assert await service.ended() == 2
    assert f"cannot listen on 127.0.0.1:{port}: the address is taken" in "\n".join(service.lines)
    service = Service(tmp_path, FARTHING_METRICS_BIND=f"127.0.0.1:{port}")
    service.child.spawn()
    assert await service.ended() == 2
    assert f"cannot serve metrics on 127.0.0.1:{port}: the address is taken" in "\n".join(service.lines)
    holder.close()


@dataclass(frozen=True, kw_only=True)
class Settings(ServiceSettings):
    greeting: str = setting("hello", doc="said first")


async def build(process: Process[Settings]) -> None:
    async def say(request: StringValue, context: object) -> StringValue:
        return StringValue(value=f"{process.settings.greeting}, {request.value}")

    await process.report("redis", False)
    process.serve(echo_service(say))


async def test_a_composition_root_runs_inside_a_test() -> None:
    async with running("echo", settings(Settings, greeting="ahoy"), build) as echo:
        stub = EchoStub(echo.channel())
        assert (await stub.Say(StringValue(value="you"))).value == "ahoy, you"
        assert [span.kind.name for span in echo.spans.all()] == ["SERVER"]
        assert echo.process.server is not None
        assert not echo.process.server.health.serving
        await echo.process.report("redis", True)
        assert echo.process.server.health.serving


async def test_channels_of_a_process_call_in_its_own_name() -> None:
    async with running("echo", settings(Settings), build) as back:

        async def relay(process: Process[Settings]) -> None:
            stub = EchoStub(process.channel(back.target))

            async def say(request: StringValue, context: object) -> StringValue:
                answer: StringValue = await stub.Say(request)
                return answer

            process.serve(echo_service(say))

        async with running("relay", settings(Settings), relay) as front:
            assert (await EchoStub(front.channel()).Say(StringValue(value="x"))).value == "hello, x"
    with pytest.raises(FarthingError):
        await EchoStub(front.channel()).Say(StringValue(value="x"))
