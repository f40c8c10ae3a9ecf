"""The settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farthing_kit.config import setting
from farthing_kit.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(ServiceSettings):
    """Read from FARTHING_GATEWAY_<FIELD>, else FARTHING_<FIELD>."""

    bind: str = setting("127.0.0.1:8081", doc="address that the gRPC server listens on; port 0 takes a free one")
    default_deadline_ms: int = setting(120_000, doc="deadline of calls that come without one", min=1)

    # Peers
    accounting_target: str = setting("127.0.0.1:8086", doc="address of accounting")
    cache_target: str = setting("127.0.0.1:8083", doc="address of the cache")
    classifier_target: str = setting("127.0.0.1:8082", doc="address of the classifier")
    scheduler_target: str = setting("127.0.0.1:8084", doc="address of the scheduler")
    inference_target: str = setting("127.0.0.1:8085", doc="address of inference")
    nats_url: str = setting("nats://127.0.0.1:4222", doc="where invalidations are heard and usage is published")

    # How long each of them may take before the request goes on without it, or fails
    accounting_timeout_ms: int = setting(1000, doc="budget of Authorize, Reserve, Release and ListPrices", min=1)
    look_up_timeout_ms: int = setting(200, doc="budget of a look-up in the cache; longer is a miss", min=1)
    search_timeout_ms: int = setting(150, doc="budget of a look-up by meaning; longer is a miss", min=1)
    store_timeout_ms: int = setting(1000, doc="budget of keeping an answer, after the caller has it", min=1)
    analyze_timeout_ms: int = setting(500, doc="budget of the classifier; longer means the default tier", min=1)
    judge_timeout_ms: int = setting(2000, doc="budget of the judge of a cascade; longer means escalate", min=1)
    analyze_hedge_ms: int = setting(
        50,
        doc="head start of the look-up before the classifier is asked too; a short one wastes passes under load",
        min=0,
    )
    list_timeout_ms: int = setting(2000, doc="budget of listing pools", min=1)

    # Routing
    unsure_above: float = setting(0.95, doc="uncertainty above which the default tier answers", min=0.0, max=1.0)
    practically_equal: float = setting(0.02, doc="tiers whose success is this close are as good", min=0.0, max=1.0)
    cascade_low: float = setting(0.3, doc="success up to which no cascade begins on a tier", min=0.0, max=1.0)
    cascade_high: float = setting(0.9, doc="success from which no cascade begins on a tier", min=0.0, max=1.0)
    cascade_begin_ms: int = setting(8_000, doc="with less of the deadline left, no cascade begins", min=0)
    cascade_escalate_ms: int = setting(3_000, doc="with less left, a cascade delivers its first answer", min=0)
    catalogue_refresh_ms: int = setting(10_000, doc="how old models and prices may get", min=100)

    # Memory
    near_cache_bytes: int = setting(64 * 1024 * 1024, doc="size of the near cache", min=0)
    near_cache_entry_bytes: int = setting(256 * 1024, doc="largest entry of the near cache", min=0)
    near_cache_ttl_ms: int = setting(30_000, doc="longest life of an entry of the near cache", min=0)
    keys: int = setting(10_000, doc="API keys remembered, and as many refused ones", min=1)
    key_stale_ms: int = setting(300_000, doc="how long a key serves after its time while accounting is away", min=0)
    key_refused_ms: int = setting(2_000, doc="how long a refused key is refused without asking again", min=0)
    idempotency_keys: int = setting(100_000, doc="idempotency keys remembered, for 24 hours", min=1)
    idempotency_bytes: int = setting(16 * 1024 * 1024, doc="answers remembered for repetitions", min=0)
    sessions: int = setting(100_000, doc="sessions whose tier is remembered", min=1)
    grace_quiet_ms: int = setting(30_000, doc="how long accounting must answer before an outage counts as over", min=0)
    background_limit: int = setting(256, doc="stores and releases under way at once; more are dropped", min=1)
    background_ms: int = setting(2_000, doc="budget of each store and release, after the caller has its answer", min=1)

    # One answer for all who ask the same at once
    publish_gather_ms: int = setting(50, doc="how long pieces are gathered before others get them", min=0)
    publish_beat_ms: int = setting(
        800, doc="how often a lease is kept; at most a third of the cache's lease", min=1, max=60_000
    )
    follow_silence_ms: int = setting(
        10_000, doc="silence after which a follower answers by itself; at most a third of its deadline", min=1
    )
    refreshes: int = setting(2, doc="answers that are made anew at once, before they end; 0 for never", min=0)
    refresh_ms: int = setting(120_000, doc="budget of each of them", min=1)

    # Usage events of answers from a cache
    outbox_dir: Path = setting(Path(".farthing/gateway/outbox"), doc="folder of the outbox, of this process alone")
    outbox_fsync: bool = setting(False, doc="usage survives a power cut too, for 1 to 5 ms a request")

    # Learning from outcomes
    foretold_pending: int = setting(10_000, doc="decisions that wait to be written down; more are lost, counted", min=1)
    decisions_bytes: int = setting(128 * 1024 * 1024, doc="size of the stream of decisions", min=64 * 1024)
    outcomes_bytes: int = setting(32 * 1024 * 1024, doc="size of the stream of outcomes", min=64 * 1024)
    shadows: int = setting(2, doc="answers of the large tier that are compared at once; more are left out", min=0)
    shadow_ms: int = setting(120_000, doc="budget of each of them, after the caller has its answer", min=1)
    outcome_days: int = setting(30, doc="how long decisions wait for an outcome, and outcomes are kept", min=1)
