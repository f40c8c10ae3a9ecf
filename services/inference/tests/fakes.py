"""Ports in memory that truly work: servers that echo, fail and stop on demand."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass, field

from farthing_inference.domain.errors import EngineFailed, ModelNotLoaded, PromptTooLarge, ServerUnreachable
from farthing_inference.domain.generation import FinishReason, Progress, Sampling
from farthing_inference.domain.pools import ModelSpec, Placement, ServerAddress
from farthing_kit.errors import DeadlineExceeded
from farthing_kit.usage import TokenUsage

SLOW_S = 0.05


@dataclass
class EchoServer:
    """One server. It has every model but those in `missing`; `failure` is raised after `fail_after` tokens; after the
    first token it waits for `pause`. `said` is set with the first token. Models in `slow` take 50 ms for a word. It has
    `slots` places. While it reads the prompt it says so at each of the counts in `prefill`; `pause_prefill` holds it
    there. `asked` and `stops` tell what was asked. It does not tell its control tokens while it is `mute`."""

    up: bool = True
    missing: set[str] = field(default_factory=set)
    slow: set[str] = field(default_factory=set)
    slots: int = 64
    failure: Exception | None = None
    fail_after: int = 0
    pause: asyncio.Event | None = None
    control_tokens: tuple[str, ...] = ()
    mute: bool = False
    prefill: tuple[int, ...] = ()
    pause_prefill: asyncio.Event | None = None
    said: asyncio.Event = field(default_factory=asyncio.Event)
    running: int = 0
    asked: int = 0
    stops: list[tuple[str, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.places = asyncio.Semaphore(self.slots)


class EchoEngine:
    """Says the words of the prompt, each a token with the space before it. `default` makes its servers."""

    def __init__(self, default: Callable[[], EchoServer] = EchoServer) -> None:
        self.servers: defaultdict[ServerAddress, EchoServer] = defaultdict(default)

    async def generate(
        self, placement: Placement, prompt: str, sampling: Sampling, timeout_s: float
    ) -> AsyncGenerator[Progress, None]:
        server = self.servers[placement.server]
        server.asked += 1
        server.stops.append(sampling.stop)
        if not server.up:
            raise ServerUnreachable("unavailable")
        if placement.model.triton_model in server.missing:
            raise ModelNotLoaded("model not loaded")
        server.running += 1
        try:
            async with asyncio.timeout(timeout_s), server.places:
                async for progress in _echo(server, placement, prompt, sampling):
                    yield progress
        except TimeoutError:
            raise DeadlineExceeded("too slow") from None
        finally:
            server.running -= 1


async def _echo(
    server: EchoServer, placement: Placement, prompt: str, sampling: Sampling
) -> AsyncGenerator[Progress, None]:
    words = _words(prompt)
    if len(words) > placement.model.context_tokens:
        raise PromptTooLarge.in_tokens(placement.model.context_tokens, len(words))
    said = words[: sampling.max_output_tokens]
    for count in server.prefill:
        yield Progress("", count, 0)
    if server.pause_prefill is not None:
        await server.pause_prefill.wait()
    for count, word in enumerate(said, start=1):
        if server.failure is not None and count > server.fail_after:
            raise server.failure
        if server.pause is not None and count > 1:
            await server.pause.wait()
        if placement.model.triton_model in server.slow:
            await asyncio.sleep(SLOW_S)
        last = count == len(said)
        finish = (FinishReason.STOP if len(said) == len(words) else FinishReason.LENGTH) if last else None
        server.said.set()
        yield Progress(word, len(words), count, finish)


def _words(prompt: str) -> list[str]:
    first, *rest = prompt.split()
    return [first, *(f" {word}" for word in rest)]


class EchoProbe:
    """Asks the servers of an EchoEngine."""

    def __init__(self, engine: EchoEngine) -> None:
        self._engine = engine
        self.asked: list[ServerAddress] = []

    async def ready_models(self, server: ServerAddress, triton_models: Sequence[str]) -> frozenset[str]:
        self.asked.append(server)
        await asyncio.sleep(0)
        if not self._engine.servers[server].up:
            raise ServerUnreachable("unavailable")
        return frozenset(triton_models) - self._engine.servers[server].missing

    async def control_tokens(self, server: ServerAddress, model: ModelSpec) -> Sequence[str]:
        if self._engine.servers[server].mute:
            raise EngineFailed("no control tokens")
        return self._engine.servers[server].control_tokens


@dataclass
class NotingMeter:
    """Keeps what it was told."""

    firsts: list[float] = field(default_factory=list)
    ends: list[tuple[str, str, TokenUsage]] = field(default_factory=list)

    def first_token(self, placement: Placement, seconds: float) -> None:
        self.firsts.append(seconds)

    def ended(
        self, placement: Placement, outcome: str, usage: TokenUsage, seconds: float, after_first_s: float
    ) -> None:
        self.ends.append((placement.server, outcome, usage))
