"""The scheduler's settings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from farthing_kit.config import setting
from farthing_kit.settings import ServiceSettings


class Role(Enum):
    """What a process does."""

    BOTH = "both"
    API = "api"
    """Queues jobs and holds the callers' streams."""
    WORKER = "worker"
    """Takes jobs and runs them."""


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings(ServiceSettings):
    """Times are in milliseconds."""

    bind: str = setting("127.0.0.1:8084", doc="address that the gRPC server listens on; port 0 takes a free one")
    default_deadline_ms: int = setting(120_000, doc="deadline of calls that come without one", min=1)
    role: Role = setting(Role.BOTH, doc="API holds callers' streams, WORKER runs jobs, BOTH does both in one process")
    nats_url: str = setting("nats://127.0.0.1:4222", doc="NATS servers, with commas")
    nats_monitor_url: str = setting("http://127.0.0.1:8222", doc="monitoring address of NATS, to check that it syncs")
    inference_target: str = setting("127.0.0.1:8085", doc="address of inference")
    outbox_dir: Path = setting(
        Path(".farthing/scheduler/outbox"), doc="folder of this process alone, where usage waits for JetStream"
    )
    outbox_fsync: bool = setting(False, doc="usage survives a power cut too, for 1 to 5 ms a request")

    jobs_max_messages: int = setting(4_096, doc="most jobs in the queue, waiting and running", min=1)
    jobs_max_messages_per_model: int = setting(512, doc="most jobs in the queue for one model", min=1)
    jobs_max_bytes: int = setting(64 * 1024 * 1024, doc="most bytes of jobs in the queue", min=1024)
    jobs_max_age_ms: int = setting(900_000, doc="a job older than this leaves the queue unanswered", min=1_000)
    jobs_duplicate_window_ms: int = setting(120_000, doc="how long a request id is refused a second time", min=100)
    jobs_replicas: int = setting(1, doc="NATS servers that hold each job", min=1, max=5)
    max_deadline_ms: int = setting(600_000, doc="no job runs longer, whatever its caller's deadline", min=1)

    publish_timeout_ms: int = setting(1_000, doc="how long the queue may take to accept a job", min=1)
    outage_ms: int = setting(3_000, doc="streams end when NATS is away for longer", min=1)
    silence_ms: int = setting(15_000, doc="a stream ends when its worker is silent longer; more than ack_wait", min=1)
    reply_limit: int = setting(512, doc="replies that wait for one slow reader before its stream ends", min=1)

    slots_per_model: int = setting(32, doc="jobs of one model that a worker runs at once", min=1)
    max_models: int = setting(64, doc="models that a worker takes jobs for", min=1)
    max_attempts: int = setting(2, doc="workers that may die on a job before it ends with an error", min=1)
    ack_wait_ms: int = setting(6_000, doc="a worker silent for longer loses its jobs to another", min=100)
    heartbeat_ms: int = setting(2_000, doc="how often a worker says that it lives; a third of ack_wait or less", min=10)
    coalesce_ms: int = setting(2, doc="tokens that arrive within this become one message", min=0)
    drain_ms: int = setting(8_000, doc="how long a stopping worker waits for its jobs", min=0, max=8_500)
    tombstones: int = setting(10_000, doc="cancelled jobs that a worker remembers until they are delivered", min=1)
    models_interval_ms: int = setting(5_000, doc="how often inference is asked which models there are", min=10)
