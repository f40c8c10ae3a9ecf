"""A scheduler with what it talks to: real NATS, its real composition root, and a fake inference behind real gRPC."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from farthing.accounting.v1.usage_event_pb2 import SupersededCall, UsageEvent
from farthing.scheduler.v1.scheduler_service_pb2 import (
    Charge,
    GenerateRequest,
    GenerateResponse,
    GetQueuesRequest,
    Queue,
)
from farthing.scheduler.v1.scheduler_service_pb2_grpc import SchedulerServiceStub
from farthing.type.v1.model_pb2 import ChatMessage, ChatRole, Sampling, Task, Tier
from farthing.type.v1.usage_pb2 import Quote
from farthing_kit import nats as kit_nats
from farthing_kit.context import RequestContext, use_context
from farthing_kit.interceptors.client import Channel
from farthing_kit.local.nats import Nats
from farthing_kit.local.process import ChildProcess, Spec
from farthing_kit.testing.server import RunningProcess, RunningServer, Spans, running, serving, tenant_context
from farthing_kit.testing.settings import TEST_SECRET, settings
from farthing_scheduler.config import Role, SchedulerSettings
from farthing_scheduler.main import build
from services.scheduler.tests.fake_inference import FakeInference, service

MODEL = "small"
USAGE = kit_nats.Stream(name="USAGE", subjects=["usage.*"], max_bytes=16 * 1024 * 1024)
# Faults are noticed within a second or two, so that no test waits for long; a busy machine is no fault yet.
QUICK: dict[str, Any] = {
    "heartbeat_ms": 250,
    "ack_wait_ms": 1_000,
    "silence_ms": 2_500,
    "outage_ms": 800,
    "models_interval_ms": 200,
}
# Nothing is noticed by the clock.
CALM: dict[str, Any] = {"models_interval_ms": 200, "publish_timeout_ms": 5_000}


def request(script: str, model: str = MODEL, *, cascade: SupersededCall | None = None) -> GenerateRequest:
    """A request whose prompt is a script of the fake inference; `cascade`: the call that it supersedes."""
    return GenerateRequest(
        model=model,
        messages=[ChatMessage(role=ChatRole.CHAT_ROLE_USER, content=script)],
        sampling=Sampling(max_output_tokens=1000),
        charge=Charge(
            reservation_id="r_1",
            quote=Quote(price_version=1, model=model),
            tier=Tier.TIER_SMALL,
            task=Task.TASK_CHAT,
            tags={"feature": "tests"},
            superseded=cascade,
        ),
        return_mean_token_logprob=cascade is not None,
    )


@dataclass
class Answer:
    """What one call brought."""

    events: list[GenerateResponse] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(event.chunk.text for event in self.events)

    @property
    def kinds(self) -> list[str]:
        """Each kind of event once, in order of appearance."""
        return list(dict.fromkeys(str(event.WhichOneof("event")) for event in self.events))


@dataclass
class Mesh:
    """The parts of one test. `scheduler` holds the callers' streams."""

    nats: Nats
    inference: FakeInference
    inference_server: RunningServer
    scheduler: RunningProcess[SchedulerSettings]
    channel: Channel
    js: Any
    folder: Path
    spans: list[Spans]
    times: dict[str, Any]

    @property
    def inference_target(self) -> str:
        return self.inference_server.target

    @property
    def stub(self) -> SchedulerServiceStub:
        return SchedulerServiceStub(self.channel)

    async def ask(self, script: str, **options: Any) -> Answer:
        """One call, to its end; options as of `stream`."""
        answer = Answer()
        await self.collect(answer, script, **options)
        return answer

    async def collect(self, answer: Answer, script: str, **options: Any) -> None:
        """One call, to its end, into an answer that can be looked at meanwhile."""
        async for event in self.stream(script, **options):
            answer.events.append(event)

    def stream(
        self,
        script: str,
        *,
        context: RequestContext | None = None,
        timeout: float = 10.0,
        model: str = MODEL,
        cascade: SupersededCall | None = None,
    ) -> AsyncIterator[GenerateResponse]:
        """One call, to be read by the test."""
        with use_context(context or tenant_context()):
            call: Any = self.stub.Generate(request(script, model, cascade=cascade), timeout=timeout)
        return call  # type: ignore[no-any-return]

    async def queues(self) -> dict[str, Queue]:
        """GetQueues, by model."""
        response = await self.stub.GetQueues(GetQueuesRequest())
        return {queue.model: queue for queue in response.queues}

    async def usage(self, count: int) -> list[UsageEvent]:
        """All events that charge something, once there are `count`."""
        return await self._events(count, voided=False)

    async def voids(self, count: int) -> list[UsageEvent]:
        """All events that only give a reservation back, once there are `count`."""
        return await self._events(count, voided=True)

    async def _events(self, count: int, *, voided: bool) -> list[UsageEvent]:
        found: list[UsageEvent] = []

        async def are_enough() -> bool:
            found[:] = [event for event in await self.published() if event.voided is voided]
            return len(found) >= count

        await until(are_enough)
        return found

    async def published(self) -> list[UsageEvent]:
        """All events so far."""
        numbers = range(1, (await self.js.stream_info("USAGE")).state.last_seq + 1)
        return [UsageEvent.FromString((await self.js.get_msg("USAGE", number)).data) for number in numbers]

    def child(self, role: Role, name: str, **changes: Any) -> ChildProcess:
        """A scheduler as a process of its own, not yet started."""
        secret = self.folder / "secret"
        secret.write_bytes(TEST_SECRET)
        values = {
            **self.times,
            **changes,
            "role": role.value,
            "nats_url": self.nats.url,
            "nats_monitor_url": self.nats.monitor_url,
            "inference_target": self.inference_target,
            "outbox_dir": self.folder / name,
            "bind": "127.0.0.1:0",
        }
        env = {f"FARTHING_SCHEDULER_{key.upper()}": str(value) for key, value in values.items()}
        env["FARTHING_MESH_SECRET_FILE"] = str(secret)
        argv = [sys.executable, "-m", "farthing_scheduler"]
        return ChildProcess(Spec(name, argv, self.folder / f"{name}.log", env={**os.environ, **env}))

    @asynccontextmanager
    async def worker(self, name: str, **changes: Any) -> AsyncIterator[RunningProcess[SchedulerSettings]]:
        """One more worker, in this process."""
        values = {**self.times, **changes, "role": Role.WORKER, "outbox_dir": self.folder / name}
        made = settings(
            SchedulerSettings,
            nats_url=self.nats.url,
            nats_monitor_url=self.nats.monitor_url,
            inference_target=self.inference_target,
            **values,
        )
        async with running("scheduler", made, build) as process:
            yield process


@asynccontextmanager
async def mesh(
    nats: Nats,
    folder: Path,
    *,
    models: tuple[str, ...] = (MODEL,),
    apart: bool = False,
    times: dict[str, Any] = CALM,
    **changes: Any,
) -> AsyncIterator[Mesh]:
    """A whole scheduler on `nats`, ready to take calls: its two roles in one process, or `apart`. `changes` are
    settings."""
    async with AsyncExitStack() as stack:
        client = await stack.enter_async_context(connection(nats.url))
        js = client.jetstream()
        await kit_nats.ensure_stream(js, USAGE)
        fake, spans = FakeInference(*models), Spans()
        inference = await stack.enter_async_context(serving(service(fake), telemetry=spans.telemetry("inference")))
        values = {**times, "outbox_dir": folder / "outbox", **changes}
        if apart:
            values["role"] = Role.API
        made = settings(
            SchedulerSettings,
            nats_url=nats.url,
            nats_monitor_url=nats.monitor_url,
            inference_target=inference.target,
            **values,
        )
        scheduler = await stack.enter_async_context(running("scheduler", made, build))
        channel = await stack.enter_async_context(scheduler.channel())
        made_mesh = Mesh(nats, fake, inference, scheduler, channel, js, folder, [spans, scheduler.spans], times)
        if apart:
            worker = await stack.enter_async_context(made_mesh.worker("worker", **changes))
            made_mesh.spans.append(worker.spans)
        yield made_mesh


@asynccontextmanager
async def connection(url: str) -> AsyncIterator[Client]:
    client = Client()
    await client.connect(url, max_reconnect_attempts=-1, error_cb=_quiet)
    try:
        yield client
    finally:
        await client.close()


async def _quiet(error: Exception) -> None:
    """Lost connections are part of the tests."""


async def until(condition: Any, timeout_s: float = 10.0) -> None:
    """Wait until a condition, plain or awaitable, holds."""
    async with asyncio.timeout(timeout_s):
        while True:
            found = condition()
            if asyncio.iscoroutine(found):
                found = await found
            if found:
                return
            await asyncio.sleep(0.01)


async def start(child: ChildProcess) -> int:
    """Start a child and wait until it says that it is ready; returns its port."""

    async def said() -> bool:
        return b'{"ready"' in child.spec.log.read_bytes()

    await child.start(said)
    line = next(line for line in child.spec.log.read_text().splitlines() if line.startswith('{"ready"'))
    return int(json.loads(line)["port"])


async def freeze(process: ChildProcess) -> None:
    """Stop a process as a debugger would, and wait until each of its threads stands still; SIGCONT lets it go on."""
    process.signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{process.pid}/task")
    await until(lambda: all(_state(task) == "T" for task in tasks.iterdir()))


def _state(task: Path) -> str:
    return (task / "stat").read_text().rpartition(")")[2].split()[0]
