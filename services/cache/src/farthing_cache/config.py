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
    redis_url: str = setting("redis://127.0.0.1:6379/0", doc="where answers are kept: redis://, rediss:// or unix://")
    redis_password: Secret | None = setting(None, doc="names the file with the password of Redis, if it has one")
    nats_url: str = setting("nats://127.0.0.1:4222", doc="where gateways are told what to forget")
    redis_timeout_ms: int = setting(
        100, doc="how long Redis may take for one step; longer is a failure", min=1, max=5000
    )
    redis_connections: int = setting(64, doc="connections to Redis at once", min=1)
    memory_share: float = setting(
        0.6,
        doc="share of Redis's memory above which nothing new is kept; accounting needs room",
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
