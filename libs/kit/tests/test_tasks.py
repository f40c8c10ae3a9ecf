"""Tasks: each has an owner, and none dies silently."""

from __future__ import annotations

import ast
import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from farthing_kit import tasks
from farthing_kit.lifecycle import EXIT_CRASHED, Process
from farthing_kit.settings import ServiceSettings
from farthing_kit.telemetry.names import MetricName
from farthing_kit.testing.server import running
from farthing_kit.testing.settings import settings
from farthing_kit.testing.waiting import until

ROOT = Path(__file__).parents[3]
MAKERS = {"create_task", "ensure_future", "run_coroutine_threadsafe"}


async def fails() -> None:
    raise RuntimeError("with a text of somebody")


async def waits_for_what_is_cancelled() -> None:
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.cancel()
    await future


@pytest.fixture
async def told() -> AsyncIterator[list[dict[str, Any]]]:
    """What the loop's exception handler is told."""
    found: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: found.append(context))
    yield found
    loop.set_exception_handler(before)


async def test_a_death_is_told_to_the_loop_and_to_whoever_cannot_do_without(told: list[dict[str, Any]]) -> None:
    deaths: list[BaseException] = []
    await asyncio.wait({tasks.spawn("doomed", fails(), died=deaths.append)})
    await until(lambda: bool(deaths))
    assert [(context[tasks.TASK], type(context["exception"])) for context in told] == [("doomed", RuntimeError)]
    assert [type(death) for death in deaths] == [RuntimeError]


async def test_a_cancellation_that_came_from_inside_is_a_death(told: list[dict[str, Any]]) -> None:
    await asyncio.wait({tasks.spawn("doomed", waits_for_what_is_cancelled())})
    await until(lambda: bool(told))
    assert isinstance(told[0]["exception"], tasks.CancelledFromInside)


async def test_to_return_and_to_be_cancelled_by_the_owner_are_good_ends(told: list[dict[str, Any]]) -> None:
    endless = tasks.spawn("endless", asyncio.Event().wait())
    done = tasks.spawn("done", asyncio.sleep(0))
    await asyncio.sleep(0)
    endless.cancel()
    await asyncio.wait({endless, done})
    await asyncio.sleep(0)
    assert told == []


async def test_a_task_that_nobody_holds_lives_until_its_end() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        # Only the task itself knows this future: the loop holds neither.
        future: asyncio.Future[None] = asyncio.Future()
        asyncio.get_running_loop().call_soon(wake.append, future)
        await future
        ended.set()

    wake: list[asyncio.Future[None]] = []
    tasks.spawn("unheld", work()).set_name("unheld")  # and the task is dropped
    await until(lambda: bool(wake))
    gc.collect()
    wake.pop().set_result(None)
    await until(ended.is_set)


@pytest.mark.parametrize("needed", [True, False])
async def test_a_process_counts_deaths_and_stops_for_what_it_cannot_do_without(needed: bool) -> None:
    async def build(process: Process[ServiceSettings]) -> None:
        process.serve()

    async with running("test", settings(ServiceSettings), build) as made:
        process = made.process
        if needed:
            process.start("doomed", fails())
            assert await process.wait() == EXIT_CRASHED
        else:
            await asyncio.wait({tasks.spawn("doomed", fails())})
        deaths = process.telemetry.metrics
        await until(lambda: deaths.value(MetricName.TASK_DEATHS, task="doomed") == 1)
        assert process.draining == needed


def sources() -> list[Path]:
    folders = [*ROOT.glob("services/*/src"), *ROOT.glob("libs/*/src"), ROOT / "cli" / "src", ROOT / "models" / "src"]
    return sorted(path for folder in folders for path in folder.rglob("*.py"))


def strays(tree: ast.Module) -> Iterator[int]:
    """Lines that make a task other than in a TaskGroup, or drop what `awaited` gives them."""
    groups = {
        item.optional_vars.id
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncWith)
        for item in node.items
        if isinstance(item.optional_vars, ast.Name) and ast.unparse(item.context_expr).endswith("TaskGroup()")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node) in MAKERS:
            owner = node.func.value if isinstance(node.func, ast.Attribute) else None
            if not (isinstance(owner, ast.Name) and owner.id in groups):
                yield node.lineno
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _name(node.value) == "awaited":
            yield node.lineno


def _name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def test_no_code_makes_a_task_that_nobody_owns() -> None:
    files = sources()
    assert len(files) > 200
    home = Path(tasks.__file__).resolve()
    found = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        if path.resolve() != home
        for line in strays(ast.parse(path.read_text()))
    ]
    assert found == [], "start it with tasks.spawn, tasks.awaited or in a TaskGroup"


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("asyncio.create_task(work())", [1]),
        ("asyncio.ensure_future(work())", [1]),
        ("loop.create_task(work())", [1]),
        ("create_task(work())", [1]),
        ("tasks.awaited('x', work())", [1]),
        ("kept = tasks.awaited('x', work())", []),
        ("async def f():\n async with asyncio.TaskGroup() as group:\n  group.create_task(work())", []),
    ],
)
def test_the_walk_finds_what_it_looks_for(code: str, lines: list[int]) -> None:
    assert list(strays(ast.parse(code))) == lines
