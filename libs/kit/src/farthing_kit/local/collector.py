"""An OpenTelemetry collector as a child process: spans come in over OTLP and end in a file, one batch a line.

The real collector, with deploy/config/otel-collector, where there is one that can do it: the program that
FARTHING_OTELCOL names, or otelcol-contrib or otelcol on the PATH. Otherwise the kit's own receiver (`otlp_receiver`),
which speaks the same protocol and writes the same file: the collector that Python packages carry has no OTLP receiver.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from farthing_kit.local.process import ChildProcess, LocalError, Probe, Spec, free_port, tcp_says
from farthing_kit.local.wheels import config_dir

PROGRAM_VARIABLE: Final = "FARTHING_OTELCOL"
SPANS_FILE: Final = "spans.jsonl"
_NAMES: Final = ("otelcol-contrib", "otelcol")
_NEEDED: Final = ("name: otlp", "name: file", "name: attributes", "name: health_check")
_COMPONENTS_TIMEOUT_S: Final = 10.0


class Collector:
    """One collector. `forward`: an OTLP/gRPC address (such as Jaeger's) that gets every span as well."""

    def __init__(self, state: Path, *, log: Path, grpc_port: int = 0, http_port: int = 0, forward: str = "") -> None:
        self.grpc_port = grpc_port or free_port()
        self.http_port = http_port or free_port()
        self._state = state
        self._forward = forward
        self.spans_file = state / SPANS_FILE
        real = real_collector()
        self.real = real is not None
        self._health_port = free_port() if self.real else self.http_port
        argv = self._receiver() if real is None else self._real(real)
        self.process = ChildProcess(Spec("collector", argv, log, env={**os.environ, **self._env()}))

    @property
    def endpoint(self) -> str:
        """OTLP/gRPC: FARTHING_OTLP_ENDPOINT."""
        return f"http://127.0.0.1:{self.grpc_port}"

    @property
    def http_address(self) -> str:
        """OTLP/HTTP, "host:port": Triton sends there."""
        return f"127.0.0.1:{self.http_port}"

    @property
    def ready(self) -> Probe:
        """Whether it takes spans."""
        question = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        return tcp_says(self._health_port, question, b"HTTP/1.1 200 OK")

    async def start(self) -> Collector:
        """Start it and wait until it takes spans."""
        self._state.mkdir(parents=True, exist_ok=True)
        await self.process.start(self.ready)
        return self

    async def stop(self) -> None:
        """Stop it; what it had taken is in the file."""
        await self.process.stop()

    def spans(self) -> Iterator[dict[str, Any]]:
        """Every span in the file, as OTLP JSON with its resource's attributes under "resource"."""
        if self.spans_file.exists():
            with self.spans_file.open(encoding="utf-8") as lines:
                yield from read_spans(lines)

    def _receiver(self) -> list[str]:
        argv = [sys.executable, "-m", "farthing_kit.local.otlp_receiver", "--file", str(self.spans_file)]
        argv += ["--grpc", f"127.0.0.1:{self.grpc_port}", "--http", f"127.0.0.1:{self.http_port}"]
        return [*argv, "--forward", self._forward] if self._forward else argv

    def _real(self, program: str) -> list[str]:
        folder = config_dir() / "otel-collector"
        configs = [folder / "config.yaml", *([folder / "forward.yaml"] if self._forward else [])]
        return [program, *(f"--config=file:{path}" for path in configs)]

    def _env(self) -> dict[str, str]:
        return {
            "OTELCOL_GRPC": f"127.0.0.1:{self.grpc_port}",
            "OTELCOL_HTTP": f"127.0.0.1:{self.http_port}",
            "OTELCOL_HEALTH": f"127.0.0.1:{self._health_port}",
            "OTELCOL_FILE": str(self.spans_file),
            "OTELCOL_FORWARD": self._forward,
        }


def real_collector() -> str | None:
    """The path of a collector that can take OTLP and write files; None where there is none."""
    named = os.environ.get(PROGRAM_VARIABLE)
    if named:
        if not _capable(named):
            raise LocalError(f"{PROGRAM_VARIABLE} names {named}, which cannot take OTLP and write files; unset it")
        return named
    found = (shutil.which(name) for name in _NAMES)
    return next((path for path in found if path is not None and _capable(path)), None)


def _capable(program: str) -> bool:
    try:
        done = subprocess.run([program, "components"], capture_output=True, timeout=_COMPONENTS_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    components = done.stdout.decode(errors="replace").splitlines()
    return all(any(line.strip().removeprefix("- ") == name for line in components) for name in _NEEDED)


def read_spans(lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """The spans of a collector's file. A last line that is still being written is left out."""
    for line in lines:
        try:
            batch = json.loads(line)
        except ValueError:
            continue
        for group in batch.get("resourceSpans", ()):
            resource = {item["key"]: item["value"] for item in group.get("resource", {}).get("attributes", ())}
            for scope in group.get("scopeSpans", ()):
                for span in scope.get("spans", ()):
                    yield {**span, "resource": resource}
