"""A server as a child process: started with a log file, waited for, and never left behind."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

START_TIMEOUT_S: Final = 30.0
STOP_TIMEOUT_S: Final = 10.0
_POLL_S: Final = 0.02
_LOG_TAIL_BYTES: Final = 4_000
_LOG_TAIL_LINES: Final = 5
_FIRST_PORT: Final = 10_000
_OUTGOING: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")
_OUTGOING_DEFAULT: Final = (32_768, 60_999)
_LAUNCH: Final = Path(__file__).with_name("launch.py")

Probe = Callable[[], Awaitable[bool]]

_given: set[int] = set()


class LocalError(Exception):
    """A server cannot be had here; the text is one line that says what to do."""


@dataclass(frozen=True)
class Spec:
    """What to start. `as_user`: arguments for launch.py, such as ("--uid", "65534")."""

    name: str
    argv: Sequence[str]
    log: Path
    env: Mapping[str, str] | None = None
    cwd: Path | None = None
    as_user: Sequence[str] = ()
    stop_signal: signal.Signals = signal.SIGTERM


class ChildProcess:
    """One child in a process group of its own. Dies with this process, also when that is killed.

    Start it from the main thread: Linux ties a child's life to the thread that made it.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self._popen: subprocess.Popen[bytes] | None = None
        self._log_begin = 0

    @property
    def pid(self) -> int:
        """The process id; 0 when it never ran."""
        return self._popen.pid if self._popen is not None else 0

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Its exit code once it ended (negative: the signal that ended it)."""
        return self._popen.poll() if self._popen is not None else None

    def spawn(self) -> None:
        """Start it without waiting for it to be ready."""
        self.spec.log.parent.mkdir(parents=True, exist_ok=True)
        with self.spec.log.open("ab") as log:
            self._log_begin = log.tell()
            self._popen = subprocess.Popen(
                launched(self.spec.argv, self.spec.as_user),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(os.environ if self.spec.env is None else self.spec.env),
                cwd=self.spec.cwd,
                start_new_session=True,
            )

    async def start(self, ready: Probe, timeout_s: float = START_TIMEOUT_S) -> Self:
        """Start it and wait until `ready` says so; LocalError with the end of its log if it exits or takes too long."""
        self.spawn()
        try:
            await self.wait_ready(ready, timeout_s)
        except BaseException:
            self.kill()
            raise
        return self

    async def wait_ready(self, ready: Probe, timeout_s: float = START_TIMEOUT_S) -> None:
        """Poll `ready` until it is true."""
        end = time.monotonic() + timeout_s
        while not await _holds(ready):
            if not self.running:
                raise LocalError(f"{self.spec.name} exited with code {self.exit_code}: {self.log_tail()}")
            if time.monotonic() > end:
                raise LocalError(f"{self.spec.name} was not ready within {timeout_s:g} s: {self.log_tail()}")
            await asyncio.sleep(_POLL_S)

    async def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """Ask it to stop, wait, and kill what is left of its group."""
        if self._popen is None:
            return
        self.signal(self.spec.stop_signal)
        end = time.monotonic() + timeout_s
        while self.running and time.monotonic() < end:  # noqa: ASYNC110 - a child's end is no event of the loop
            await asyncio.sleep(_POLL_S)
        self.kill()

    def stop_now(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """As `stop`, for code outside an event loop; blocks."""
        if self._popen is None:
            return
        self.signal(self.spec.stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._popen.wait(timeout_s)
        self.kill()

    def kill(self) -> None:
        """Kill its whole group (as kill -9 would) and reap it."""
        if self._popen is None:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._popen.pid, signal.SIGKILL)
        self._popen.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal, SIGSTOP and SIGCONT included; nothing happens if it ended."""
        if self._popen is not None and self._popen.poll() is None:
            self._popen.send_signal(number)

    def log_tail(self) -> str:
        """The last lines that it wrote since it was started, as one line; of a service's JSON only the errors."""
        try:
            written = self.spec.log.read_bytes()[self._log_begin :]
        except OSError:
            return "(no log)"
        if len(written) > _LOG_TAIL_BYTES:
            written = written[-_LOG_TAIL_BYTES:].partition(b"\n")[2]
        lines = map(_said, written.decode(errors="replace").split("\n"))
        return " | ".join([line for line in lines if line][-_LOG_TAIL_LINES:]) or "its log tells of no error"


def _said(line: str) -> str:
    """A line of a log for people; nothing where it is JSON and tells of no error."""
    try:
        entry = json.loads(line)
    except (ValueError, RecursionError):
        return line.strip()
    if not isinstance(entry, dict) or entry.get("level") != "error":
        return ""
    return ": ".join(str(entry[key]) for key in ("event", "error") if key in entry)


def launched(argv: Sequence[str], as_user: Sequence[str] = ()) -> list[str]:
    """The command that runs `argv` as a child which dies with this process."""
    return [sys.executable, "-I", "-S", str(_LAUNCH), str(os.getpid()), *as_user, *map(str, argv)]


async def _holds(ready: Probe) -> bool:
    try:
        async with asyncio.timeout(2.0):
            return await ready()
    except (OSError, TimeoutError):
        return False


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port that was free a moment ago and stays so until its server listens: never one that the kernel may give
    to an outgoing connection meanwhile, and never one that this process was given before."""
    while True:
        port = secrets.choice(_server_ports())
        if port not in _given and not port_taken(port, host):
            _given.add(port)
            return port


@functools.cache
def _server_ports() -> Sequence[int]:
    """The ports that only servers take: those outside the kernel's range for outgoing connections."""
    low, high = _OUTGOING_DEFAULT
    with contextlib.suppress(OSError):
        low, high = map(int, _OUTGOING.read_text().split())
    outside = [*range(_FIRST_PORT, low), *range(high + 1, 65536)]
    return outside or range(_FIRST_PORT, 65536)


def port_taken(port: int, host: str = "127.0.0.1") -> bool:
    """Whether something listens there already."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return True
        return False


def tcp_open(port: int, host: str = "127.0.0.1") -> Probe:
    """A probe: something accepts connections there."""

    async def probe() -> bool:
        _, writer = await asyncio.open_connection(host, port)
        writer.close()
        return True

    return probe


def tcp_says(port: int, question: bytes, answer: bytes, host: str = "127.0.0.1") -> Probe:
    """A probe: whoever listens there answers `question` with something that starts with `answer`."""

    async def probe() -> bool:
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(question)
            return (await reader.read(len(answer))) == answer
        finally:
            writer.close()

    return probe
