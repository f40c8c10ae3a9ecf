"""The composition root of the scheduler."""

from __future__ import annotations

import argparse
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from nats.aio.client import Client

from farthing.inference.v1.inference_service_pb2_grpc import InferenceServiceStub
from farthing.scheduler.v1.scheduler_service_pb2_grpc import add_SchedulerServiceServicer_to_server
from farthing_kit import nats as kit_nats
from farthing_kit.lifecycle import Process, run
from farthing_kit.outbox import open_outbox
from farthing_kit.server import ServerError, Service
from farthing_scheduler.adapters.bus import Bus
from farthing_scheduler.adapters.inference import InferenceEngine, InferenceModels
from farthing_scheduler.adapters.link import Link
from farthing_scheduler.adapters.metrics import JobMetrics
from farthing_scheduler.adapters.pull import PullSource
from farthing_scheduler.adapters.queue import JetStreamQueue
from farthing_scheduler.adapters.stream import JobsStream, Topology
from farthing_scheduler.adapters.usage import OutboxUsage
from farthing_scheduler.app.generate import Generate
from farthing_scheduler.app.relays import Relays
from farthing_scheduler.app.work import Worker, WorkerLimits
from farthing_scheduler.config import Role, SchedulerSettings
from farthing_scheduler.handler import NAME, SchedulerHandler

# How often streams are looked at that wait in vain.
WATCH_S = 0.25


@dataclass(frozen=True)
class _Parts:
    """What both roles stand on."""

    client: Client
    topology: Topology
    bus: Bus
    models: InferenceModels
    inference: InferenceServiceStub


async def build(process: Process[SchedulerSettings]) -> None:
    """Both roles, or one, on one connection to NATS."""
    role = process.settings.role
    parts = await _parts(process)
    relays = await _api(process, parts) if role is not Role.WORKER else None
    source = await _worker(process, parts) if role is not Role.API else None
    if source is None:
        process.start("models", parts.models.watch(_ignore))
    _link(process, parts, relays, source)


async def _parts(process: Process[SchedulerSettings]) -> _Parts:
    settings = process.settings
    _check(settings)
    client = await process.enter(
        kit_nats.connect(settings.nats_url, name="scheduler", telemetry=process.telemetry, died=process.crash)
    )
    await kit_nats.require_sync_always(settings.nats_monitor_url)
    topology = Topology(client, _stream(settings), ack_wait_s=settings.ack_wait_ms / 1000)
    await topology.ensure_stream()
    inference = InferenceServiceStub(process.channel(settings.inference_target))
    models = InferenceModels(inference, process.clock, interval_s=settings.models_interval_ms / 1000)
    bus = Bus(client, process.telemetry, ask_timeout_s=settings.publish_timeout_ms / 1000)
    return _Parts(client, topology, bus, models, inference)


async def _api(process: Process[SchedulerSettings], parts: _Parts) -> Relays:
    """The caller's side."""
    settings, instance = process.settings, secrets.token_hex(6)
    queue = JetStreamQueue(
        parts.client,
        signer=process.signer,
        telemetry=process.telemetry,
        acknowledge_within_s=settings.publish_timeout_ms / 1000,
    )
    await queue.open()
    relays = Relays(
        process.clock,
        reply_limit=settings.reply_limit,
        silence_s=settings.silence_ms / 1000,
        outage_s=settings.outage_ms / 1000,
    )
    await parts.bus.hear_replies(instance, relays)
    generate = Generate(
        instance, queue=queue, cancels=parts.bus, models=parts.models, relays=relays, clock=process.clock
    )
    process.start("relays", generate.watch(WATCH_S))
    handler = SchedulerHandler(generate, queue, max_deadline_s=settings.max_deadline_ms / 1000)
    process.serve(Service(NAME, add_SchedulerServiceServicer_to_server, handler))
    return relays


async def _worker(process: Process[SchedulerSettings], parts: _Parts) -> PullSource:
    """The worker's side. Its task drains when it is cancelled: after the server's own streams have ended."""
    settings = process.settings
    outbox = await process.enter(
        open_outbox(
            settings.outbox_dir,
            parts.client.jetstream(),
            process.telemetry,
            fsync=settings.outbox_fsync,
            died=process.crash,
        )
    )
    process.start("watch the outbox", outbox.watch(process.report, process.clock))
    source = PullSource(
        parts.client,
        parts.topology,
        signer=process.signer,
        telemetry=process.telemetry,
        clock=process.clock,
        slots_per_model=settings.slots_per_model,
        max_models=settings.max_models,
        expires_s=settings.ack_wait_ms / 2000,
    )
    worker = Worker(
        source=source,
        engine=InferenceEngine(parts.inference),
        replies=parts.bus,
        cancels=parts.bus,
        usage=OutboxUsage(outbox),
        observer=JobMetrics(process.telemetry.metrics),
        telemetry=process.telemetry,
        clock=process.clock,
        limits=_limits(settings),
    )
    source.take = worker.take
    await parts.bus.hear_cancels(worker)
    process.start("worker", worker.run())
    process.start("models", parts.models.watch(worker.serve))
    return source


def _link(process: Process[SchedulerSettings], parts: _Parts, relays: Relays | None, source: PullSource | None) -> None:
    """What happens when NATS goes and comes."""

    async def lost() -> None:
        await process.report("nats", False)
        if relays is not None:
            relays.connection_lost()

    async def back(life: int) -> None:
        queue_is_empty = await parts.topology.ensure_stream()
        if relays is not None:
            relays.connection_back(life, queue_is_empty=queue_is_empty)
        if source is not None:
            await source.reconnected()
        await process.report("nats", True)

    process.start("link", Link(parts.client, process.clock, lost=lost, back=back).watch())


def _check(settings: SchedulerSettings) -> None:
    """Times that only work in order: a worker must be heard several times before it counts as gone, and so on."""
    orders = {
        "3 * heartbeat_ms <= ack_wait_ms": 3 * settings.heartbeat_ms <= settings.ack_wait_ms,
        "heartbeat_ms < outage_ms": settings.heartbeat_ms < settings.outage_ms,
        "ack_wait_ms < silence_ms": settings.ack_wait_ms < settings.silence_ms,
        "max_deadline_ms <= jobs_max_age_ms": settings.max_deadline_ms <= settings.jobs_max_age_ms,
    }
    broken = [rule for rule, holds in orders.items() if not holds]
    if broken:
        raise ServerError(f"the scheduler's settings must keep {' and '.join(broken)}")


def _stream(settings: SchedulerSettings) -> JobsStream:
    return JobsStream(
        max_messages=settings.jobs_max_messages,
        max_messages_per_model=settings.jobs_max_messages_per_model,
        max_bytes=settings.jobs_max_bytes,
        max_message_bytes=settings.max_message_bytes,
        max_age_s=settings.jobs_max_age_ms / 1000,
        duplicate_window_s=settings.jobs_duplicate_window_ms / 1000,
        replicas=settings.jobs_replicas,
    )


def _limits(settings: SchedulerSettings) -> WorkerLimits:
    return WorkerLimits(
        max_attempts=settings.max_attempts,
        heartbeat_s=settings.heartbeat_ms / 1000,
        lease_s=settings.ack_wait_ms / 1000,
        coalesce_s=settings.coalesce_ms / 1000,
        drain_s=settings.drain_ms / 1000,
        tombstones=settings.tombstones,
        tombstone_lifetime_s=settings.jobs_max_age_ms / 1000,
    )


async def _ignore(models: Sequence[str]) -> None:
    """Without a worker, nothing follows from which models there are."""


def main(arguments: Sequence[str] | None = None) -> int:
    """`python -m farthing_scheduler [--role both|api|worker]`."""
    parser = argparse.ArgumentParser(prog="farthing-scheduler", description="When a request runs.")
    parser.add_argument("--role", choices=[role.value for role in Role], help="instead of FARTHING_SCHEDULER_ROLE")
    role = parser.parse_args(arguments).role
    env = dict(os.environ) if role is None else {**os.environ, "FARTHING_SCHEDULER_ROLE": role}
    return run("scheduler", SchedulerSettings, build, env=env)
