"""The composition root of the inference service."""

from __future__ import annotations

import os

from farthing.inference.v1.inference_service_pb2_grpc import add_InferenceServiceServicer_to_server
from farthing_inference.adapters import pools_file
from farthing_inference.adapters.chat_templates import JinjaTemplates
from farthing_inference.adapters.meters import PrometheusMeter, watch_fleet
from farthing_inference.adapters.triton.channels import Channels
from farthing_inference.adapters.triton.commands import DIALECTS
from farthing_inference.adapters.triton.engine import TritonEngine
from farthing_inference.adapters.triton.probe import TritonProbe
from farthing_inference.adapters.triton.stream import Patience
from farthing_inference.app.generate import Generate, Limits
from farthing_inference.app.places import Places, Waiting
from farthing_inference.app.watch import Intervals, Watch
from farthing_inference.config import InferenceSettings
from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.pools import PoolSpec
from farthing_inference.domain.pools_file import PoolsFileError
from farthing_inference.handler import NAME, InferenceHandler
from farthing_kit.context import Role
from farthing_kit.lifecycle import Process, run
from farthing_kit.server import ServerError, Service

OPERATORS = frozenset({Role.OPERATOR})


async def build(process: Process[InferenceSettings]) -> None:
    """Everything, from the pools file to the server."""
    pools = _pools(process.settings)
    fleet = Fleet(pools, failures_until_down=process.settings.failures_until_down)
    watch_fleet(process.telemetry.metrics, fleet)
    channels = Channels()
    process.on_close(channels.close)
    watch = _watch(process, pools, fleet, channels)
    await watch.check_all()
    process.start("watch", watch.run())
    process.serve(
        Service(
            NAME,
            add_InferenceServiceServicer_to_server,
            InferenceHandler(_generate(process, fleet, channels, watch), fleet),
            methods={"SetPoolState": OPERATORS},
        )
    )


def _pools(settings: InferenceSettings) -> tuple[PoolSpec, ...]:
    try:
        return pools_file.load(settings.pools_file, os.environ, DIALECTS)
    except PoolsFileError as error:
        raise ServerError(str(error)) from None


def _watch(process: Process[InferenceSettings], pools: tuple[PoolSpec, ...], fleet: Fleet, channels: Channels) -> Watch:
    settings = process.settings

    async def report(pool: str, up: bool) -> None:
        # Not required: a service whose pools are down still says so well, and lists them.
        await process.report(f"pool-{pool}", up, required=False)

    return Watch(
        pools,
        fleet,
        TritonProbe(channels, timeout_s=settings.health_timeout_ms / 1000),
        clock=process.clock,
        log=process.log,
        intervals=Intervals(settings.health_interval_ms / 1000, settings.health_retry_ms / 1000),
        report=report,
    )


def _generate(process: Process[InferenceSettings], fleet: Fleet, channels: Channels, watch: Watch) -> Generate:
    settings = process.settings
    patience = Patience(settings.first_token_timeout_ms / 1000, settings.next_token_timeout_ms / 1000)
    engine = TritonEngine(channels, process.telemetry, clock=process.clock, patience=patience)
    process.on_close(engine.close)
    waiting = Waiting(settings.restart_wait_ms / 1000, settings.max_waiting)
    return Generate(
        fleet,
        Places(fleet, waiting, clock=process.clock, log=process.log),
        engine,
        JinjaTemplates(settings.max_prompt_bytes),
        PrometheusMeter(process.telemetry.metrics),
        clock=process.clock,
        log=process.log,
        limits=Limits(settings.max_prompt_bytes, settings.generation_timeout_ms / 1000),
        suspect=watch.suspect,
    )


def main() -> int:
    """Serve until asked to stop; returns the exit code."""
    return run("inference", InferenceSettings, build)
