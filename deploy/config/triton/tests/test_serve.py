"""How the server's processes end, and what they leave open."""

import asyncio
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest_asyncio

from deploy.config.triton.tests.vllm_client import Client, Reply, reply_of
from farthing_kit.local.triton import Triton

SERVE = Path(__file__).parents[1] / "serve.py"
MODELS = ["echo-slow", "small"]
LONG = " ".join(f"word{number}" for number in range(400))  # 20 s of echo-slow
STOPPED_WITHIN_S = 9.5  # the kit kills after 10 s
GONE_WITHIN_S = 20.0


@pytest_asyncio.fixture
async def triton(servers_dir: Path) -> AsyncIterator[Triton]:
    server = await Triton(MODELS, log=servers_dir / "triton-ending.log").start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def client(triton: Triton) -> AsyncIterator[Client]:
    async with grpc.aio.insecure_channel(triton.address) as channel:
        yield Client(channel)


async def begun(client: Client, model: str) -> Any:
    """A stream whose first piece has come, with many to follow."""
    prompt = LONG if model == "echo-slow" else "Once upon a time"
    call = await client.call(model, prompt, max_tokens=1500, ignore_eos=True)
    assert not (await call.read()).error_message
    return call


def descendants(pid: int) -> Iterator[int]:
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def regions(server: Triton) -> list[Path]:
    return list(Path("/dev/shm").glob(f"farthing-triton-{server.process.pid}-*"))


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def until(holds: Callable[[], bool], within_s: float) -> None:
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - the end of another process is no event here
            await asyncio.sleep(0.05)


async def test_a_server_that_is_answering_stops_in_seconds_and_leaves_nothing(triton: Triton, client: Client) -> None:
    calls = await asyncio.gather(*(begun(client, model) for model in MODELS))
    processes = list(descendants(triton.process.pid))
    assert len(processes) >= 1 + len(MODELS)
    assert regions(triton) == []  # nobody who comes later can open the memory of a server that runs
    started = time.monotonic()
    triton.process.signal(signal.SIGTERM)
    ends: list[Reply] = await asyncio.gather(*(reply_of(call) for call in calls))
    await until(lambda: not triton.process.running, STOPPED_WITHIN_S)
    assert time.monotonic() - started < STOPPED_WITHIN_S
    assert triton.process.exit_code == 0
    assert {reply.error for reply in ends} == {"the server is shutting down"}
    assert regions(triton) == []
    assert not any(alive(pid) for pid in processes)


async def test_nothing_outlives_a_server_that_is_killed(triton: Triton, client: Client) -> None:
    call = await begun(client, "small")
    processes = list(descendants(triton.process.pid))
    os.kill(triton.process.pid, signal.SIGKILL)  # not its group
    await until(lambda: not any(alive(pid) for pid in processes), GONE_WITHIN_S)
    assert regions(triton) == []
    call.cancel()


async def test_the_port_that_llama_cpp_opens_wants_a_key(triton: Triton) -> None:
    doors = [port for pid in descendants(triton.process.pid) for port in listening(pid)]
    doors = [port for port in doors if port not in (triton.grpc_port, triton.metrics_port)]
    assert doors
    for port in doors:
        assert await asyncio.to_thread(status, f"http://127.0.0.1:{port}/completion", b'{"prompt":"hello"}') == 401


async def test_a_taken_port_is_one_line(triton: Triton) -> None:
    said = await refusal("--models", "echo", "--grpc-port", str(triton.grpc_port))
    assert said == f"triton: port {triton.grpc_port} of 127.0.0.1 cannot be had: Address already in use; choose another"


async def test_an_unknown_model_is_one_line() -> None:
    said = await refusal("--models", "huge", "--grpc-port", "1")
    assert said == "triton: there is no model 'huge'; there are echo, echo-slow, large, medium, small"


async def test_an_installation_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    said = await refusal("--models", "echo", "--grpc-port", "1", "--build-dir", str(tmp_path))
    assert said.endswith("is not there; make it: python deploy/config/triton/install.py")
    assert "\n" not in said


async def refusal(*words: str) -> str:
    """What serve.py says when it does not start."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(SERVE), *words, stderr=subprocess.PIPE)
    async with asyncio.timeout(STOPPED_WITHIN_S):
        _, said = await process.communicate()
    assert process.returncode == 1
    return said.decode().strip()


def listening(pid: int) -> list[int]:
    """The TCP ports of IPv4 that a process listens on."""
    sockets = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir() if fd.is_symlink()}
    rows = [line.split() for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]]
    return [int(row[1].split(":")[1], 16) for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in sockets]


def status(url: str, body: bytes) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
