"""The settings of accounting: `FARTHING_ACCOUNTING_<FIELD>`, else the common `FARTHING_<FIELD>`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farthing_kit.config import Secret, setting
from farthing_kit.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class AccountingSettings(ServiceSettings):
    """Defaults work on a laptop; secrets are files."""

    bind: str = setting("127.0.0.1:8086", doc="address that the gRPC server listens on; port 0 takes a free one")
    redis_url: str = setting("redis://127.0.0.1:6379/0", doc="where reservations are: redis://, rediss:// or unix://")
    redis_password: Secret | None = setting(None, doc="names the file with the password of Redis, if it has one")
    postgres_dsn: Secret = setting(
        doc="names the file with the address of PostgreSQL, password included: postgresql://…"
    )
    nats_url: str = setting("nats://127.0.0.1:4222", doc="NATS servers, with commas")
    nats_monitor_url: str = setting("http://127.0.0.1:8222", doc="monitoring address of NATS, to check that it syncs")
    key_pepper: Secret = setting(
        doc="names the file with the secret that API keys are hashed under (32 bytes or more); keys end when it changes"
    )
    prices_file: Path | None = setting(
        Path("deploy/config/accounting/prices.toml"),
        doc="prices for models that have none yet, read at start; empty: none",
    )

    authorize_ttl_ms: int = setting(
        60_000,
        doc="how long gateways may keep the answer to a key, if they miss its revocation",
        min=1_000,
        max=3_600_000,
    )
    limits_fresh_ms: int = setting(5_000, doc="how old prices and budgets in memory may be", min=0, max=60_000)
    limits_stale_ms: int = setting(600_000, doc="how old they may be while PostgreSQL is away", min=0, max=3_600_000)
    limits_entries: int = setting(10_000, doc="organisations whose budgets are kept in memory", min=1)
    awaiting_ms: int = setting(
        120_000,
        doc="how long the books must have been current until an expired reservation counts no more",
        min=1_000,
        max=86_400_000,
    )
    closed_keep_ms: int = setting(
        120_000,
        doc="how long Redis remembers a reservation that is over, for what comes late",
        min=10_000,
        max=86_400_000,
    )

    redis_connections: int = setting(64, doc="connections to Redis", min=1)
    redis_timeout_ms: int = setting(
        500, doc="how long Redis may take for one step; less than gateways wait for accounting", min=10, max=60_000
    )
    breaker_failures: int = setting(3, doc="failures in a row after which Redis is left alone for a while", min=1)
    breaker_pause_ms: int = setting(500, doc="how long Redis is left alone before one call tries it again", min=1)
    postgres_connections: int = setting(8, doc="connections to PostgreSQL", min=2)
    postgres_waiting: int = setting(256, doc="calls that wait for a connection to PostgreSQL; more are refused", min=1)
    statement_timeout_ms: int = setting(5_000, doc="longest statement in PostgreSQL, verification aside", min=100)

    usage_max_bytes: int = setting(512 * 1024 * 1024, doc="size of the stream USAGE; full, it refuses", min=1024 * 1024)
    usage_replicas: int = setting(1, doc="copies of the stream USAGE: 3 on a NATS cluster", min=1, max=5)
    dead_max_bytes: int = setting(
        64 * 1024 * 1024, doc="size of the stream DLQ; full, what cannot be booked is dropped", min=64 * 1024
    )
    dead_per_org: int = setting(256, doc="dead letters that are kept of one organisation, at most", min=1)
    fold_batch: int = setting(256, doc="usage events that are booked in one commit, at most", min=1, max=4_096)
    fold_wait_ms: int = setting(50, doc="how long a batch waits for more events after its first", min=1, max=1_000)

    start_wait_ms: int = setting(30_000, doc="how long a start waits for Redis, PostgreSQL and NATS to be there", min=0)
    recovery_ms: int = setting(
        3_000,
        doc="how long nobody is admitted against a limit after Redis lost its data; more than watch_interval_ms",
        min=100,
        max=60_000,
    )
    watch_interval_ms: int = setting(
        1_000, doc="how often Redis, PostgreSQL, NATS and the books are looked at", min=100
    )
