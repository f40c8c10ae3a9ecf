"""`farthing replay`: sends a file of requests at the mesh, and says what came back."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from itertools import islice
from pathlib import Path

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli.arguments import MAX_INT32
from farthing_cli.console import console, say_json, say_lines
from farthing_cli.errors import InputError
from farthing_cli.fields import Fields
from farthing_cli.generation import Answer, Gateway, cache_name, tier_name
from farthing_cli.grading import Expected, expected, is_right
from farthing_cli.mesh import Mesh
from farthing_cli.money import dollars, share
from farthing_cli.text_files import json_lines
from farthing_kit.client import channel
from farthing_kit.errors import FarthingError
from farthing_kit.labels import MAX_CHARS, MAX_NAME_CHARS

MAX_LINES = 1_000_000
MAX_OFFSET_MS = 366 * 86_400_000
MAX_OUTPUT_TOKENS = 64  # of a line that names none
OUTCOME_TIMEOUT_S = 10.0
LINE_EVERY = 20  # requests between two lines where there is no terminal


class Arrivals(StrEnum):
    """When requests are sent."""

    CLOSED = "closed"  # as soon as one of `concurrency` callers is free
    RECORDED = "recorded"  # at the offsets in the file, divided by `speed`
    POISSON = "poisson"  # at random, `rate` a second on average


@dataclass(frozen=True)
class Recorded:
    """One request of a file, and what a right answer holds, where the file says so."""

    org: str
    prompt: pb.Prompt
    offset_s: float
    expected: Expected | None = None


@dataclass(frozen=True)
class Load:
    """How a file is replayed."""

    concurrency: int = 4
    arrivals: Arrivals = Arrivals.CLOSED
    speed: float = 1.0
    rate_per_s: float = 1.0
    seed: int = 0
    timeout_s: float = 300.0


@dataclass(frozen=True)
class Grade:
    """Whether the answer to a request was right, for files that say what a right answer holds."""

    org: str
    request_id: str
    feature: str
    right: bool


@dataclass
class Outcome:
    """What came of a replay so far."""

    answers: list[Answer] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)
    wall_s: float = 0.0
    grades: list[Grade] = field(default_factory=list)


def bundled(name: str) -> Path:
    """A file of requests that ships with the command."""
    return Path(str(resources.files("farthing_cli"))) / "samples" / f"{name}.jsonl"


def bundled_sample() -> Path:
    """The sample that is replayed when no file is named."""
    return bundled("three_tenants")


@dataclass(frozen=True)
class Reading:
    """How requests are taken from a file: which lines, and what is set on all of them."""

    limit: int | None = None
    part: str = ""  # only lines whose "part" this is
    model: str = ""
    tier: model_pb2.Tier.ValueType = model_pb2.TIER_UNSPECIFIED
    quality_floor: float | None = None
    no_cache: bool = False


def read_requests(path: Path, reading: Reading) -> list[Recorded]:
    """The requests of a file; a line that is none of them is named."""
    rows = (_request(Fields(row, place, dot=": "), reading) for place, row in islice(json_lines(path), MAX_LINES))
    found = list(islice((request for request in rows if request is not None), reading.limit))
    if not found:
        raise InputError(f"{path} holds no request" + (f' whose "part" is {reading.part!r}' if reading.part else ""))
    return found


def _request(row: Fields, reading: Reading) -> Recorded | None:
    if reading.part and row.text("part", "") != reading.part:
        return None
    feature = row.label("feature", most=MAX_CHARS)
    prompt = pb.Prompt(
        messages=[model_pb2.ChatMessage(role=model_pb2.CHAT_ROLE_USER, content=row.text("prompt"))],
        sampling=model_pb2.Sampling(
            max_output_tokens=row.whole("max_output_tokens", 1, MAX_INT32) or MAX_OUTPUT_TOKENS
        ),
        cache_control=pb.CacheControl(no_cache=reading.no_cache, no_store=reading.no_cache),
        model=reading.model,
        tier=reading.tier,
        quality_floor=reading.quality_floor,
        tags={"feature": feature} if feature else {},
    )
    offset_ms = row.number("offset_ms", 0, MAX_OFFSET_MS) or 0.0
    org = row.label("org", most=MAX_NAME_CHARS, least=1)
    return Recorded(org, prompt, offset_ms / 1000, _expected(row) if "expect" in row else None)


def _expected(row: Fields) -> Expected:
    try:
        return expected(row.table("expect").values)
    except ValueError as error:
        raise InputError(f"{row.place}: {error}") from None


async def replay(
    mesh: Mesh, requests: Sequence[Recorded], load: Load, *, quiet: bool, outcome: Outcome | None = None
) -> Outcome:
    """Send them all; one that fails is counted under its reason and does not stop the rest. `outcome`: what came of
    it so far, for who is stopped."""
    outcome = Outcome() if outcome is None else outcome
    async with AsyncExitStack() as stack:
        opened = await stack.enter_async_context(channel(mesh.require_gateway()))
        gateways = {org: Gateway(opened, mesh.api_key(org), load.timeout_s) for org in {each.org for each in requests}}
        shown = stack.enter_context(Shown(len(requests), quiet))

        async def send(request: Recorded) -> None:
            try:
                answer = await gateways[request.org].ask(request.prompt)
                outcome.answers.append(answer)
                outcome.grades.extend(_graded(request, answer))
            except FarthingError as error:
                outcome.failures[error.reason_name] += 1
            shown.update(_hits(outcome.answers), outcome.failures.total())

        start = time.perf_counter()
        try:
            await _drive(requests, load, send)
        finally:
            outcome.wall_s = time.perf_counter() - start
    return outcome


def _graded(request: Recorded, answer: Answer) -> Iterator[Grade]:
    if request.expected is not None:
        right = is_right(answer.text, request.expected)
        yield Grade(request.org, answer.decision.request_id, request.prompt.tags["feature"], right)


class Shown:
    """How far a replay is: a bar on a terminal, a line now and then elsewhere."""

    def __init__(self, total: int, quiet: bool) -> None:
        self._total, self._done, self._quiet = total, 0, quiet
        screen = console()
        self._console = screen
        counts = TextColumn("{task.fields[hits]} from cache, {task.fields[failed]} failed")
        self._bar = Progress(
            TextColumn("replay"),
            BarColumn(),
            MofNCompleteColumn(),
            counts,
            TimeElapsedColumn(),
            console=screen,
            disable=quiet or not screen.is_terminal,
        )
        self._task = self._bar.add_task("replay", total=total, hits=0, failed=0)

    def __enter__(self) -> "Shown":
        self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()

    def update(self, hits: int, failed: int) -> None:
        """One more is done."""
        self._done += 1
        self._bar.update(self._task, advance=1, hits=hits, failed=failed)
        due = self._done % LINE_EVERY == 0 or self._done == self._total
        if due and not self._quiet and not self._console.is_terminal:
            self._console.print(f"replay: {self._done} of {self._total}, {hits} from cache, {failed} failed")


async def _drive(requests: Sequence[Recorded], load: Load, send: Callable[[Recorded], Awaitable[None]]) -> None:
    """Send each request when its time has come, at most `concurrency` at once."""
    free = asyncio.Semaphore(load.concurrency)

    async def one(request: Recorded) -> None:
        try:
            await send(request)
        finally:
            free.release()

    start = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for due_s, request in _schedule(requests, load):
            await asyncio.sleep(max(0.0, start + due_s - time.perf_counter()))
            await free.acquire()
            group.create_task(one(request))


def _schedule(requests: Sequence[Recorded], load: Load) -> Iterator[tuple[float, Recorded]]:
    """When each request is due, in seconds from the start."""
    rng = random.Random(load.seed)
    due_s = 0.0
    for request in requests:
        match load.arrivals:
            case Arrivals.RECORDED:
                due_s = request.offset_s / load.speed
            case Arrivals.POISSON:
                due_s += rng.expovariate(load.rate_per_s)
            case Arrivals.CLOSED:
                due_s = 0.0
        yield due_s, request


async def report_outcomes(mesh: Mesh, outcome: Outcome) -> None:
    """Tell the mesh which of its answers were right, for `farthing models recalibrate`. Nothing was foretold about
    answers of a cache, nor where a model was named."""
    async with channel(mesh.require_gateway()) as opened:
        for grade in outcome.grades:
            gateway = Gateway(opened, mesh.api_key(grade.org), OUTCOME_TIMEOUT_S)
            try:
                await gateway.report_outcome(grade.request_id, acceptable=grade.right)
            except FarthingError as error:
                if error.reason != ErrorReason.ERROR_REASON_NOT_FOUND:
                    raise


def _hits(answers: Sequence[Answer]) -> int:
    return sum(each.decision.cache_level != model_pb2.CACHE_LEVEL_NONE for each in answers)


def summary(outcome: Outcome) -> dict[str, object]:
    """Counts, latencies in milliseconds, and money in nano-dollars."""
    answers = outcome.answers
    return {
        "requests": len(answers) + outcome.failures.total(),
        "failures": dict(outcome.failures),
        "cache_hits": _hits(answers),
        "by_cache_level": dict(Counter(cache_name(each.decision.cache_level) for each in answers)),
        "by_tier": dict(Counter(tier_name(each.decision.tier) for each in answers)),
        "degraded": sum(bool(each.decision.degradations) for each in answers),
        "wall_s": round(outcome.wall_s, 3),
        "requests_per_s": round(len(answers) / outcome.wall_s, 3) if outcome.wall_s else 0.0,
        "output_tokens": sum(each.final.usage.output_tokens for each in answers),
        "p50_ms": quantile_ms([each.duration_s for each in answers], 0.50),
        "p99_ms": quantile_ms([each.duration_s for each in answers], 0.99),
        "first_token_p50_ms": quantile_ms([each.time_to_first_token_s for each in answers], 0.50),
        "cost_nano_usd": sum(each.final.cost.nano_units for each in answers),
        "counterfactual_cost_nano_usd": sum(each.final.counterfactual_cost.nano_units for each in answers),
        "graded": len(outcome.grades),
        "right": right(outcome),
    }


def right(outcome: Outcome) -> int:
    """How many of the graded answers were right."""
    return sum(each.right for each in outcome.grades)


def quantile_ms(durations_s: Sequence[float], share_below: float) -> float:
    """A quantile in milliseconds (nearest rank); 0 when there is nothing to rank."""
    if not durations_s:
        return 0.0
    ranked = sorted(durations_s)
    return round(ranked[min(len(ranked) - 1, int(share_below * len(ranked)))] * 1000, 3)


def sentences(outcome: Outcome) -> list[str]:
    """The summary for people."""
    answers, wall_s = outcome.answers, outcome.wall_s
    cost = sum(each.final.cost.nano_units for each in answers)
    would = sum(each.final.counterfactual_cost.nano_units for each in answers)
    durations = [each.duration_s for each in answers]
    lines = [
        f"{len(answers)} answered in {wall_s:.1f} s, {_hits(answers)} of them from a cache; "
        f"p50 {quantile_ms(durations, 0.5):.0f} ms, p99 {quantile_ms(durations, 0.99):.0f} ms",
        f"cost {dollars(cost)}; everything on the large tier without a cache {dollars(would)}; "
        f"saved {dollars(would - cost)} ({share(would - cost, would)})",
    ]
    if outcome.grades:
        lines.append(f"right: {right(outcome)} of {len(outcome.grades)} ({share(right(outcome), len(outcome.grades))})")
    lines += [
        f"failed: {count} x {reason.removeprefix('ERROR_REASON_')}" for reason, count in outcome.failures.most_common()
    ]
    return lines


def show(outcome: Outcome, *, as_json: bool) -> None:
    """Print the summary."""
    if as_json:
        say_json(summary(outcome))
    else:
        say_lines(sentences(outcome))
