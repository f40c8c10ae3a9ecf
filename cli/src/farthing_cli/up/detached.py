"""A mesh in the background: started, stopped and read from other commands."""

import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable

from farthing_cli.console import stream
from farthing_cli.errors import CliError, InputError
from farthing_cli.state import StateFolder, is_alive
from farthing_cli.up.options import UpOptions, choose_port

READY_WITHIN_S = 180.0
STOPPED_WITHIN_S = 60.0
POLL_S = 0.1


def start(options: UpOptions) -> None:
    """Start a supervisor of its own session, and wait until its mesh is ready."""
    folder = StateFolder(options.state)
    folder.prepare()
    with folder.lock():  # says at once when a mesh is there; the new supervisor takes the lock for itself
        for part in options.ports:
            choose_port(part, options.ports)
    log = folder.log_file("supervisor")
    with log.open("w") as output:
        process = subprocess.Popen(
            arguments(options), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    try:
        ready = wait_until(lambda: folder.running() is not None or process.poll() is not None, READY_WITHIN_S)
    except KeyboardInterrupt:  # it has a session of its own, which Ctrl-C does not reach
        process.terminate()
        raise
    if not ready:
        process.terminate()
        raise CliError(f"the mesh was not ready after {READY_WITHIN_S:.0f} s; see {log}")
    if process.poll() is not None:
        last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
        raise CliError(last.removeprefix("farthing: ") or f"it ended with exit code {process.returncode}")


def arguments(options: UpOptions) -> list[str]:
    """The command line of the supervisor."""
    ports = [word for part, port in options.ports.items() for word in ("--port", f"{part}={port}")]
    pools = ["--pools", str(options.pools_file)] if options.pools_file else []
    command = [sys.executable, "-m", "farthing_cli", "--state", str(options.state), "up"]
    return [*command, *ports, *pools, "--models", ",".join(options.models), "--otlp", options.otlp]


def stop(folder: StateFolder) -> None:
    """Stop the mesh that runs there, and wait until nothing of it is left."""
    supervisor = folder.require_running().supervisor_pid
    os.kill(supervisor, signal.SIGTERM)
    if not wait_until(lambda: not is_alive(supervisor), STOPPED_WITHIN_S):
        raise CliError(
            f"the mesh (process {supervisor}) did not stop within {STOPPED_WITHIN_S:.0f} s; see `farthing status`"
        )


def wait_until(condition: Callable[[], bool], within_s: float) -> bool:
    """Whether a condition came true in time."""
    give_up = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > give_up:
            return False
        time.sleep(POLL_S)
    return True


def show_log(folder: StateFolder, process: str, *, lines: int, follow: bool) -> None:
    """Print the end of a log, and go on with it when asked to."""
    known = sorted(each.stem for each in folder.logs.glob("*.log"))
    if not known:
        raise CliError(f"there is no log of {process!r}; start a mesh first")
    if process not in known:
        raise InputError(f"there is no log of {process!r}; there are: {', '.join(known)}")
    with folder.log_file(process).open(encoding="utf-8", errors="replace", newline="\n") as log:
        for line in deque(log, maxlen=lines):
            stream(line)
        while follow:
            line = log.readline()
            if line:
                stream(line)
            else:
                time.sleep(POLL_S)
