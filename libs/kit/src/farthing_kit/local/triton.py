"""Triton with the local model repository as a child process."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio

from farthing_kit.local.process import ChildProcess, LocalError, Probe, Spec, free_port
from farthing_kit.local.wheels import config_dir

# Loading Gemma at FP16 on two busy cores.
START_TIMEOUT_S: Final = 180.0
_READY: Final = b"\x08\x01"  # ServerReadyResponse{ready: true}


class Triton:
    """One Triton that serves `models` of deploy/config/triton ("echo", "small", …)."""

    def __init__(
        self, models: Sequence[str], *, log: Path, grpc_port: int = 0, metrics_port: int = 0, otlp_http: str = ""
    ) -> None:
        self.grpc_port = grpc_port or free_port()
        self.metrics_port = metrics_port or free_port()
        script = config_dir() / "triton" / "serve.py"
        if not script.exists():
            raise LocalError(f"there is no {script}; this checkout has no Triton runtime")
        argv = [sys.executable, str(script), "--models", ",".join(models)]
        argv += ["--grpc-port", str(self.grpc_port), "--metrics-port", str(self.metrics_port)]
        if otlp_http:
            argv += ["--otlp-http", otlp_http]
        self.process = ChildProcess(Spec("triton", argv, log))

    @property
    def address(self) -> str:
        """Of its gRPC endpoint."""
        return f"127.0.0.1:{self.grpc_port}"

    @property
    def ready(self) -> Probe:
        """Whether every model is loaded."""
        return server_ready(self.address)

    async def start(self, timeout_s: float = START_TIMEOUT_S) -> Triton:
        """Start it and wait until every model is loaded."""
        await self.process.start(self.ready, timeout_s)
        return self

    async def stop(self) -> None:
        """Stop it."""
        await self.process.stop()


def server_ready(address: str) -> Probe:
    """A probe: inference.GRPCInferenceService/ServerReady says true. Raw bytes, so the kit needs no tritonclient."""

    async def probe() -> bool:
        async with grpc.aio.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            call: Any = channel.unary_unary("/inference.GRPCInferenceService/ServerReady")
            try:
                answer: bytes = await call(b"", timeout=1.0)
            except grpc.aio.AioRpcError:
                return False
            return answer == _READY

    return probe
