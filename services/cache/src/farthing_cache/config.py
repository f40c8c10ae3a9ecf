"""The settings of the cache service."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from farthing_kit.config import Secret, setting
from farthing_kit.settings import ServiceSettings

DAY = timedelta(days=1)


@dataclass(frozen=True, kw_only=True)
class CacheSettings(ServiceSettings):
    """Read from FARTHING_CACHE_<FIELD>, else FARTHING_<FIELD>."""

    bind: str = setting("127.0.0.1:8083", doc="address that the gRPC server listens on; port 0 takes a free one")
    redis_url: str = setting(
        "redis://127.0.0.1:6380/0", doc="where answers are kept, apart from accounting: redis://, rediss:// or unix://"
    )
    redis_password: Secret | None = setting(None, doc="names the file with the password of Redis, if it has one")
    nats_url: str = setting("nats://127.0.0.1:4222", doc="where gateways are told what to forget")
    redis_timeout_ms: int = setting(
        100, doc="how long Redis may take for one step; longer is a failure", min=1, max=5000
    )
    redis_connections: int = setting(64, doc="connections to Redis at once", min=1)
    memory_share: float = setting(
        0.8,
        doc="share of Redis's memory above which a new answer is kept only in the place of ones that are worth less",
        min=0.0,
        max=1.0,
    )
    watch_pause_ms: int = setting(1000, doc="how often Redis is asked how it is", min=10)
    breaker_failures: int = setting(3, doc="failures in a row after which Redis is left alone for a while", min=1)
    breaker_pause_ms: int = setting(500, doc="how long Redis is left alone before one call tries it again", min=1)
    entry_limit_bytes: int = setting(256 * 1024, doc="longest answer that is kept, in bytes of UTF-8", min=1)
    time_to_live: timedelta = setting(DAY, doc="longest life of an entry; a policy may ask for less")
    jitter: float = setting(
        0.1, doc="share of its life by which an entry may end early, so that few end at once", min=0.0, max=0.9
    )
    lease: timedelta = setting(
        timedelta(seconds=3), doc="how long a leader may be silent before a follower takes over its answer"
    )
    lease_grace: timedelta = setting(
        timedelta(seconds=2), doc="how long a finished answer may still be followed, until it is kept"
    )
    max_leaders: int = setting(3, doc="leaders of one answer that may be lost before followers generate alone", min=1)
    follow_pace_ms: int = setting(20, doc="how often an answer that is followed is read", min=1, max=1000)
    follow_share: float = setting(
        0.75,
        doc="share of the calls in progress that may be waiting for answers that are being made; half of it for one "
        "organisation",
        min=0.0,
        max=0.9,
    )
    refresh_hits: int = setting(
        5, doc="hits from which an answer is made anew shortly before it ends; 0 for never", min=0
    )
    refresh_beta: float = setting(1.0, doc="how eagerly: multiples of the time that making it took", min=0.0)
    vector_memory_bytes: int = setting(
        256 * 1024 * 1024, doc="memory for vectors of hot partitions; the least valuable go", min=1024
    )
    vector_sets: bool = setting(
        False,
        doc="search in vector sets of Redis 8 instead of in memory: slower, and replicas hold no vectors; for all "
        "replicas alike",
    )
    similarity_floor: float = setting(
        0.7, doc="cosine below which no request is a candidate; no caller can lower it", min=0.0, max=1.0
    )
    candidates: int = setting(5, doc="nearest requests that are verified", min=1, max=64)
    verifier_timeout_ms: int = setting(25, doc="how long verifying may take; longer is a miss", min=1)
    max_error_share: float = setting(
        0.1, doc="the largest share of wrong answers that a policy may ask for", min=0.0, max=0.5
    )
    compare_share: float = setting(
        0.05, doc="share of near misses that are compared with a fresh answer for evidence", min=0.0, max=1.0
    )
    evidence_pace_ms: int = setting(2000, doc="how often evidence is shared between replicas", min=10)
    text_limit_chars: int = setting(8192, doc="longest text whose meaning is looked up; longer is exact only", min=1)
    log_pace_ms: int = setting(1000, doc="how often recorded look-ups are written", min=10)
    log_bytes: int = setting(
        4 * 1024 * 1024,
        doc="recorded look-ups that are kept for each organisation, in bytes; the oldest go",
        min=64 * 1024,
    )
