"""Every wait on the way of a request is shorter than the wait around it: who waits longer is not there for the answer.

WAITS is the one table of them: what is waited for, the most that it takes, and the wait around it, in milliseconds, by
the defaults of the settings and by what deploy/compose sets otherwise. A setting of time that is new must be put into
the table, or into ELSEWHERE with the reason why no request waits for it.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from farthing_accounting.adapters.nats.announcing import FLUSH_TIMEOUT_S as ANNOUNCE_S
from farthing_accounting.adapters.nats.usage import StreamLimits
from farthing_accounting.adapters.postgres.connections import Limits
from farthing_accounting.adapters.postgres.database import REPLY_S
from farthing_accounting.app import awaiting
from farthing_accounting.app.folding import LONGEST_WAIT_S
from farthing_accounting.app.fresh import LOAD_S, PATIENCE_S
from farthing_accounting.config import AccountingSettings
from farthing_cache.adapters.announcer import FLUSH_TIMEOUT_S as FORGET_S
from farthing_cache.config import CacheSettings
from farthing_classifier.config import ClassifierSettings
from farthing_gateway.config import GatewaySettings
from farthing_inference.config import InferenceSettings
from farthing_kit import client, health_check, lifecycle, server
from farthing_kit.deadline import MARGIN_S
from farthing_kit.settings import ServiceSettings
from farthing_scheduler.adapters.inference import LIST_TIMEOUT_S
from farthing_scheduler.config import SchedulerSettings

ROOT: Final = Path(__file__).parents[1]
SETTINGS: Final[dict[str, type[ServiceSettings]]] = {
    "gateway": GatewaySettings,
    "cache": CacheSettings,
    "classifier": ClassifierSettings,
    "scheduler": SchedulerSettings,
    "inference": InferenceSettings,
    "accounting": AccountingSettings,
}


class Of:
    """The times of a service in milliseconds; remembers which were asked for."""

    asked: Final[set[str]] = set()

    def __init__(self, service: str) -> None:
        self._service = service

    def __getattr__(self, name: str) -> float:
        self.asked.add(f"{self._service}.{name}")
        return milliseconds(self._service, name)


def milliseconds(service: str, name: str) -> float:
    """What compose sets, else the default."""
    default: Any = next(field.default for field in dataclasses.fields(SETTINGS[service]) if field.name == name)
    text = (ROOT / "deploy/compose/compose.yaml").read_text()
    found = re.search(rf"FARTHING_(?:{service.upper()}_)?{name.upper()}: [\"']?(\d+)", text)
    if found:
        return float(found[1])
    return default / timedelta(milliseconds=1) if isinstance(default, timedelta) else float(default)


def seconds(file: str, pattern: str) -> float:
    """A time that a file of deploy/ says, in milliseconds."""
    found = re.search(pattern, (ROOT / "deploy" / file).read_text(), re.DOTALL)
    assert found is not None, (file, pattern)
    return 1000 * float(found[1])


G, C, S, I, A = (Of(name) for name in ("gateway", "cache", "scheduler", "inference", "accounting"))  # noqa: E741
PG: Final = Limits(statement_s=5.0, transaction_s=10.0)
HOP: Final = 1000 * MARGIN_S
CALL: Final = 1000 * client.DEFAULT_TIMEOUT_S

Times = Callable[[], tuple[float, float]]
WAITS: Final[dict[str, Times]] = {
    # The gateway around accounting
    "Reserve of whom accounting knows, while PostgreSQL hangs and Redis is found to": lambda: (
        2_000 * PATIENCE_S + A.redis_timeout_ms + HOP,
        G.accounting_timeout_ms,
    ),
    "prices, budgets or sums that accounting must load": lambda: (1000 * LOAD_S + HOP, G.accounting_timeout_ms),
    "PostgreSQL in the call of somebody, until the answer travels": lambda: (HOP, 1000 * REPLY_S),
    "Redis left alone by accounting": lambda: (A.breaker_pause_ms, G.accounting_timeout_ms),
    "Release behind the answer": lambda: (G.accounting_timeout_ms, G.background_ms),
    "all that the gateway asks before a model runs": lambda: (
        G.look_up_timeout_ms + G.search_timeout_ms + G.analyze_timeout_ms + 2 * G.accounting_timeout_ms,
        G.cascade_begin_ms,
    ),
    # The gateway around the cache and the classifier
    "Redis in a look-up": lambda: (C.redis_timeout_ms + HOP, G.look_up_timeout_ms),
    "Redis and the verifier in a look-up by meaning": lambda: (
        C.redis_timeout_ms + C.verifier_timeout_ms + HOP,
        G.search_timeout_ms,
    ),
    "Redis in keeping an answer": lambda: (C.redis_timeout_ms + HOP, G.store_timeout_ms),
    "Redis left alone by the cache": lambda: (C.breaker_pause_ms, G.store_timeout_ms),
    "keeping an answer, behind it": lambda: (G.store_timeout_ms, G.background_ms),
    "the head start of the look-up": lambda: (G.analyze_hedge_ms, G.look_up_timeout_ms),
    "pieces that are gathered for followers": lambda: (G.publish_gather_ms, G.publish_beat_ms),
    "three beats of who leads": lambda: (3 * G.publish_beat_ms, C.lease),
    "a lost leader, and who takes over": lambda: (C.lease + C.lease_grace, G.follow_silence_ms),
    "what followers are read in": lambda: (C.follow_pace_ms, G.publish_beat_ms),
    "the judge of a cascade": lambda: (G.judge_timeout_ms, G.cascade_escalate_ms),
    "a cascade that goes on": lambda: (G.cascade_escalate_ms, G.cascade_begin_ms),
    "a cascade that begins": lambda: (G.cascade_begin_ms, G.default_deadline_ms),
    "a follower that goes on alone": lambda: (3 * G.follow_silence_ms, G.default_deadline_ms),
    # The catalogue
    "pools for the gateway": lambda: (G.list_timeout_ms, G.catalogue_refresh_ms),
    "models for the scheduler": lambda: (1000 * LIST_TIMEOUT_S, S.models_interval_ms),
    # The scheduler and its workers
    "three signs of life of a worker": lambda: (3 * S.heartbeat_ms, S.ack_wait_ms + 1),
    "a worker that is lost, until its job is another's": lambda: (S.ack_wait_ms, S.silence_ms),
    "the queue that accepts a job": lambda: (S.publish_timeout_ms, S.outage_ms),
    "NATS that is away": lambda: (S.outage_ms, S.silence_ms),
    "tokens that are gathered": lambda: (S.coalesce_ms, S.heartbeat_ms),
    "the longest job, in the queue": lambda: (S.max_deadline_ms, S.jobs_max_age_ms),
    "the longest job, at an engine": lambda: (S.max_deadline_ms - HOP, I.generation_timeout_ms),
    "a call without a deadline": lambda: (S.default_deadline_ms, S.max_deadline_ms),
    "jobs that a stopping worker still has": lambda: (S.drain_ms, S.grace_ms),
    # Inference and its servers
    "a server that is asked how it is": lambda: (I.health_timeout_ms, I.health_interval_ms),
    "a server that is asked again": lambda: (I.health_retry_ms, I.health_interval_ms),
    "the next token": lambda: (I.next_token_timeout_ms, I.first_token_timeout_ms),
    "the first token": lambda: (I.first_token_timeout_ms, I.default_deadline_ms),
    "an engine with a deadline of its own": lambda: (I.default_deadline_ms, I.generation_timeout_ms),
    # Accounting and its stores
    "a lock of PostgreSQL": lambda: (1000 * PG.lock_s, A.statement_timeout_ms),
    "a statement": lambda: (A.statement_timeout_ms, 1000 * PG.transaction_s),
    "a connection, and a place for it": lambda: (1000 * (PG.connect_s + PG.acquire_s), 1000 * PG.transaction_s),
    "a batch that is booked and tried again, until it is delivered again": lambda: (
        1000 * (PG.transaction_s + LONGEST_WAIT_S),
        1000 * StreamLimits().ack_wait_s,
    ),
    "the batch that is filled": lambda: (A.fold_wait_ms, 1000 * StreamLimits().patience_s),
    "every replica's look at a Redis that lost its data": lambda: (
        A.watch_interval_ms + 2 * A.redis_timeout_ms,
        A.recovery_ms,
    ),
    "the lag of books that are current": lambda: (1000 * awaiting.LAG.total_seconds(), A.awaiting_ms),
    "a Reserve that is repeated, until its trace is gone": lambda: (G.accounting_timeout_ms, A.closed_keep_ms),
    "what is fresh": lambda: (A.limits_fresh_ms, A.limits_stale_ms),
    "a key that gateways keep, and keep on without accounting": lambda: (
        A.authorize_ttl_ms + G.key_stale_ms,
        A.limits_stale_ms,
    ),
    "the word to all gateways of a key": lambda: (1000 * ANNOUNCE_S, CALL),
    "the word to all gateways of what to forget": lambda: (1000 * FORGET_S, CALL),
    # Containers
    "health, in a container": lambda: (1000 * health_check.TIMEOUT_S, seconds("Dockerfile", r"--timeout=(\d+)s")),
    **{
        f"the stop of the {name}": lambda name=name: (  # type: ignore[misc]
            stop_of(name),
            seconds("compose/compose.yaml", rf"\n  {name}:.*?stop_grace_period: (\d+)s")
            if name == "inference"
            else seconds("compose/compose.yaml", r"x-service:.*?stop_grace_period: (\d+)s"),
        )
        for name in SETTINGS
    },
}

# Times that no request waits for, and why.
ELSEWHERE: Final = {
    "*.min_deadline_ms": "the least that a call must bring",
    "*.max_connection_age_ms": "off by default",
    "gateway.near_cache_ttl_ms": "an age",
    "gateway.key_refused_ms": "an age",
    "gateway.grace_quiet_ms": "how long all must be well",
    "gateway.refresh_ms": "behind the answer, for nobody",
    "gateway.shadow_ms": "behind the answer, for nobody",
    "cache.default_deadline_ms": "every caller brings one",
    "cache.time_to_live": "an age",
    "cache.watch_pause_ms": "between two looks",
    "cache.evidence_pace_ms": "between two looks",
    "cache.log_pace_ms": "between two writes",
    "classifier.default_deadline_ms": "every caller brings one",
    "scheduler.jobs_duplicate_window_ms": "an age",
    "inference.restart_wait_ms": "inside the deadline of the job, which it carries",
    "accounting.default_deadline_ms": "every caller brings one",
    "accounting.start_wait_ms": "before anybody is served",
}


def stop_of(name: str) -> float:
    service = Of(name)
    hook = max(1000 * lifecycle.DRAIN_HOOK_TIMEOUT_S, S.drain_ms if name == "scheduler" else 0)
    return service.drain_wait_ms + hook + service.grace_ms + 1000 * server.CANCEL_WAIT_S


@pytest.mark.parametrize("name", WAITS)
def test_a_wait_is_shorter_than_the_wait_around_it(name: str) -> None:
    inner, outer = WAITS[name]()
    assert inner < outer, f"{name}: {inner:g} ms, inside {outer:g} ms"


def test_no_time_is_left_out() -> None:
    for times in WAITS.values():
        times()
    known = Of.asked | ELSEWHERE.keys()
    missing = [name for name in every_time() if name not in known and f"*.{name.partition('.')[2]}" not in known]
    assert not missing, f"put them into WAITS, or into ELSEWHERE with a reason: {missing}"


def test_nothing_is_said_of_a_time_that_is_not_there() -> None:
    there = {*every_time(), *(f"*.{field.name}" for field in dataclasses.fields(ServiceSettings))}
    assert not ELSEWHERE.keys() - there


def every_time() -> list[str]:
    return [
        f"{service}.{field.name}"
        for service, settings in SETTINGS.items()
        for field in dataclasses.fields(settings)
        if is_time(field)
    ]


def is_time(field: dataclasses.Field[Any]) -> bool:
    return field.name.endswith(("_ms", "_s")) or isinstance(field.default, timedelta)
