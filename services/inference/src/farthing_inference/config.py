"""The settings of the inference service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farthing_kit.config import setting
from farthing_kit.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class InferenceSettings(ServiceSettings):
    """Read from FARTHING_INFERENCE_<FIELD>, else FARTHING_<FIELD>."""

    bind: str = setting("127.0.0.1:8085", doc="address that the gRPC server listens on; port 0 takes a free one")
    # A generation takes as long as it takes: these two are the kit's, with longer defaults.
    default_deadline_ms: int = setting(300_000, doc="deadline of calls that come without one", min=1)
    grace_ms: int = setting(30_000, doc="how long a stopping server waits for generations in progress", min=0)

    pools_file: Path = setting(Path("deploy/config/pools.toml"), doc="names the file that describes the pools")
    max_prompt_bytes: int = setting(1024 * 1024, doc="largest conversation that is taken, in bytes of its texts", min=1)
    generation_timeout_ms: int = setting(600_000, doc="longest a generation may run, whatever its deadline", min=1)
    first_token_timeout_ms: int = setting(60_000, doc="longest silence of a server before its first token", min=1)
    next_token_timeout_ms: int = setting(30_000, doc="longest silence of a server between two tokens", min=1)
    health_interval_ms: int = setting(2_000, doc="time between two checks of a server that answers", min=10)
    health_retry_ms: int = setting(500, doc="time between two checks of a server that does not answer", min=10)
    health_timeout_ms: int = setting(1_000, doc="how long a server may take to answer a check", min=1)
    failures_until_down: int = setting(3, doc="checks in a row that must fail until a server is left out", min=1)
    restart_wait_ms: int = setting(
        10_000, doc="how long requests of a model wait for a server to come back, once its last one is gone", min=0
    )
    max_waiting: int = setting(256, doc="requests that wait for a server at once; more are told to come back", min=0)
