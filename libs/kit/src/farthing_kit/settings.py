"""The settings that every service has; a service's own class extends this one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from farthing_kit.config import Secret, setting


class LogFormat(Enum):
    """How log lines look."""

    JSON = "json"
    TEXT = "text"


class LogLevel(Enum):
    """The least important lines that are written."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """What the kit itself reads. Every field has a default that works on a laptop, but the mesh secret."""

    bind: str = setting("127.0.0.1:0", doc="address that the gRPC server listens on; port 0 takes a free one")
    metrics_bind: str = setting("", doc="address of the Prometheus endpoint; empty: none")
    mesh_secret: Secret = setting(
        doc="names the file with the secret that the services of one mesh share (32 bytes or more)"
    )
    otlp_endpoint: str = setting(
        "", doc="OTLP/gRPC address that traces go to, such as http://127.0.0.1:4317; empty: none"
    )
    trace_ratio: float = setting(1.0, doc="share of new traces that are recorded", min=0.0, max=1.0)
    log_format: LogFormat = setting(LogFormat.JSON, doc="JSON lines, or TEXT for people")
    log_level: LogLevel = setting(
        LogLevel.INFO,
        doc="least important lines that are written",
        unsafe={LogLevel.DEBUG: "debug lines are for development"},
    )
    max_concurrent: int = setting(256, doc="calls in progress at once; more are refused with UNAVAILABLE", min=1)
    max_message_bytes: int = setting(4 * 1024 * 1024, doc="largest message that is taken or sent", min=1024)
    max_message_fields: int = setting(2048, doc="most fields of a message that is taken, its parts' included", min=64)
    max_metadata_bytes: int = setting(16 * 1024, doc="largest metadata of a call", min=1024)
    min_deadline_ms: int = setting(20, doc="calls with less time left than this are refused", min=0)
    default_deadline_ms: int = setting(30_000, doc="deadline of calls that come without one", min=1)
    drain_wait_ms: int = setting(0, doc="how long a stopping server stays reachable after saying NOT_SERVING", min=0)
    grace_ms: int = setting(10_000, doc="how long a stopping server waits for calls in progress", min=0)
    max_connection_age_ms: int = setting(0, doc="connections are asked to reconnect after this; 0: never", min=0)
    tls_cert: Path | None = setting(None, doc="PEM certificate chain; with tls_key the server speaks TLS only")
    tls_key: Path | None = setting(None, doc="PEM private key of tls_cert")
    tls_ca: Path | None = setting(None, doc="PEM authorities of the mesh; with it, both sides must show a certificate")
