"""The life of a service's process: settings, resources, server, background tasks, signals, and the way out."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from typing import Any, Final, Generic, TypeVar

import uvloop

from farthing_kit import client, config, tasks, telemetry
from farthing_kit.clock import Clock, SystemClock
from farthing_kit.context import ContextSigner, service_context
from farthing_kit.credentials import Tls
from farthing_kit.errors import FarthingError
from farthing_kit.interceptors.client import Channel
from farthing_kit.server import Server, ServerError, Service
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry import Log, MetricName, Telemetry

EXIT_OK: Final = 0
EXIT_CRASHED: Final = 1
EXIT_CONFIG: Final = 2
CLOSE_TIMEOUT_S: Final = 10.0
DRAIN_HOOK_TIMEOUT_S: Final = 5.0

S = TypeVar("S", bound=ServiceSettings)
T = TypeVar("T")
Build = Callable[["Process[S]"], Awaitable[None]]


class Process(Generic[S]):
    """What a composition root builds with. Resources close in the reverse order of their making."""

    def __init__(self, service: str, settings: S, *, made: Telemetry | None = None, clock: Clock | None = None) -> None:
        self.service = service
        self.settings = settings
        self.telemetry = made or telemetry.setup(service, settings)
        self.clock: Clock = clock or SystemClock()
        self.signer = ContextSigner(settings.mesh_secret.reveal(), clock=self.clock)
        self.server: Server | None = None
        self.metrics_port = 0
        self._services: list[Service] = []
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[None]] = set()
        self._drain_hooks: list[Callable[[], Awaitable[None]]] = []
        self._early_health: list[tuple[str, bool, bool]] = []
        self._stop = asyncio.Event()
        self._spans: asyncio.Task[None] | None = None
        self._crash: BaseException | None = None
        self._deaths = self.telemetry.metrics.counter(
            MetricName.TASK_DEATHS, "Background tasks that died, by name.", ("task",)
        )

    @property
    def log(self) -> Log:
        """The log of the service."""
        return self.telemetry.log

    @property
    def port(self) -> int:
        """The port of the server, once it listens."""
        return self.server.port if self.server is not None else 0

    @property
    def draining(self) -> bool:
        """Whether the process has begun to stop."""
        return self._stop.is_set()

    async def enter(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Open a resource that closes with the process."""
        return await self._stack.enter_async_context(resource)

    def on_close(self, close: Callable[[], Awaitable[Any]]) -> None:
        """Await `close()` when the process ends."""
        self._stack.push_async_callback(close)

    def on_drain(self, hook: Callable[[], Awaitable[None]]) -> None:
        """Await `hook()` when stopping begins, while calls in progress still run: stop pulling work, for example."""
        self._drain_hooks.append(hook)

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Run a background task until the server has drained. If it raises, the process stops with exit code 1; if it
        returns, that is fine."""
        task = tasks.spawn(name, work, died=partial(self.crash, task=name))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def crash(self, error: BaseException, *, task: str = "") -> None:
        """Stop with exit code 1: something died that the process cannot do without. Who started it starts it again."""
        if self._crash is None:
            self.log.error("a background task crashed; stopping", exception=error, task=task)
            self._crash = error
        self._stop.set()

    def channel(self, target: str, *, retry: Sequence[str] = (), **options: Any) -> Channel:
        """A channel with this process's telemetry, identity and TLS; closes with it. Options as client.channel."""
        made = client.channel(
            target,
            telemetry=self.telemetry,
            signer=self.signer,
            identity=service_context(self.service),
            retry=retry,
            tls=Tls.of(self.settings),
            **options,
        )
        self.on_close(made.close)
        return made

    def serve(self, *services: Service) -> None:
        """Declare the gRPC services; they are served once `build` has returned."""
        self._services.extend(services)

    async def report(self, dependency: str, up: bool, *, required: bool = True) -> None:
        """Say whether a dependency answers; while a required one does not, health is NOT_SERVING."""
        if self.server is None:
            self._early_health.append((dependency, up, required))
        else:
            await self.server.health.report(dependency, up, required=required)

    def stop(self) -> None:
        """Begin to stop, as SIGTERM does."""
        self._stop.set()

    async def open(self, build: Build[S]) -> None:
        """Build, listen, and say so in one line."""
        asyncio.get_running_loop().set_exception_handler(self._unhandled)
        self._spans = tasks.spawn("spans", self.telemetry.run())
        await build(self)
        self.metrics_port = self._serve_metrics()
        self.server = Server(self._services, settings=self.settings, telemetry=self.telemetry, verifier=self.signer)
        for dependency, up, required in self._early_health:
            await self.server.health.report(dependency, up, required=required)
        await self.server.start()

    def _serve_metrics(self) -> int:
        bind = self.settings.metrics_bind
        if not bind:
            return 0
        try:
            return self.telemetry.metrics.serve(bind)
        except (OSError, ValueError):
            raise ServerError(f"cannot serve metrics on {bind}: the address is taken, or is none") from None

    async def wait(self) -> int:
        """Wait for a signal, `stop` or a crash; returns the exit code."""
        await self._stop.wait()
        return EXIT_CRASHED if self._crash is not None else EXIT_OK

    async def close(self) -> None:
        """Drain, then end the background tasks, then close resources in reverse, then send the last spans."""
        self._stop.set()
        if self.server is not None:
            await self.server.health.drain()
        await self._run_drain_hooks()
        if self.server is not None:
            await self.server.stop()
        await self._cancel_tasks()
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT_S):
                await self._stack.aclose()
        except Exception as error:
            self.log.error("a resource did not close cleanly", exception=error)
        await self._send_last_spans()
        await asyncio.to_thread(self.telemetry.close)

    async def _send_last_spans(self) -> None:
        if self._spans is not None:
            self._spans.cancel()
            await asyncio.wait({self._spans}, timeout=CLOSE_TIMEOUT_S)

    async def _run_drain_hooks(self) -> None:
        for hook in self._drain_hooks:
            try:
                async with asyncio.timeout(DRAIN_HOOK_TIMEOUT_S):
                    await hook()
            except Exception as error:
                self.log.error("a drain hook failed", exception=error)

    async def _cancel_tasks(self) -> None:
        running = list(self._tasks)
        for task in running:
            task.cancel()
        if running:
            await asyncio.wait(running, timeout=CLOSE_TIMEOUT_S)

    def _unhandled(self, _: asyncio.AbstractEventLoop, found: dict[str, Any]) -> None:
        """What nobody awaited. asyncio's own message may quote an exception's text; ours names its type and place."""
        error, task = found.get("exception"), found.get(tasks.TASK)
        if task is None:
            self.log.error("unhandled in the event loop", exception=error)
        else:
            self._deaths.labels(task).inc()
            self.log.error("a background task died", exception=error, task=task)


def run(service: str, settings_class: type[S], build: Build[S], *, env: Mapping[str, str] | None = None) -> int:
    """The main function of a service: load settings, build, serve until SIGTERM or SIGINT. Returns the exit code.

    0: stopped as asked. 1: crashed. 2: settings or the declared services are wrong, said on stderr.
    """
    try:
        settings = config.load(settings_class, service, os.environ if env is None else env)
    except config.ConfigError as error:
        print(f"{service}: the settings cannot be used:\n{error}", file=sys.stderr)
        return EXIT_CONFIG
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_main(service, settings, build))


async def _main(service: str, settings: S, build: Build[S]) -> int:
    process = Process(service, settings)
    _handle_signals(process)
    try:
        return await _serve(process, build)
    finally:
        await process.close()
        process.log.info("stopped")


async def _serve(process: Process[S], build: Build[S]) -> int:
    opening = tasks.awaited("open", process.open(build))
    stopping = tasks.awaited("stop", process.wait())
    try:
        await asyncio.wait({opening, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if not opening.done():
            return await stopping
        opening.result()
        _settle()
        _announce(process)
        return await stopping
    except (ServerError, OSError) as error:
        process.log.error("cannot start", exception=error, error=str(error))
        return EXIT_CONFIG
    except FarthingError as error:
        process.log.error("cannot start", error=error.message, reason=error.reason_name)
        return EXIT_CRASHED
    except Exception as error:
        process.log.error("cannot start", exception=error)
        return EXIT_CRASHED
    finally:
        for task in (opening, stopping):
            task.cancel()
        await asyncio.wait({opening, stopping})


def _settle() -> None:
    """What was loaded to start lives as long as the process: full collections, during which no call is answered, need
    not visit it each time."""
    gc.collect()
    gc.freeze()


def _announce(process: Process[Any]) -> None:
    """One line on stdout that a parent process can wait for, and one in the log."""
    ready = {"ready": process.service, "port": process.port, "metrics_port": process.metrics_port, "pid": os.getpid()}
    print(json.dumps(ready), flush=True)
    process.log.info("ready", port=process.port, pid=os.getpid())


def _handle_signals(process: Process[Any]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, process.stop)
