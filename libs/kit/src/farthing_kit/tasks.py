"""Tasks of one event loop: each has an owner, and none dies silently.

All tasks of the project are made here (tests/test_tasks.py walks the code) or in an asyncio.TaskGroup, which owns its
own. Deaths go to the loop's exception handler: in a service that is the process's, which logs and counts them. Whoever
cannot go on without a task says so with `died`, which is Process.crash where the process is to stop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

T = TypeVar("T")
Died = Callable[[BaseException], None]

# The key, in what the loop's exception handler is told, of the name of the task that died.
TASK: Final = "farthing_task"

# A loop holds its tasks weakly: what nobody holds may be collected while it waits.
_running: set[asyncio.Task[Any]] = set()


class CancelledFromInside(Exception):
    """Something that a task awaited was cancelled, and the task with it, although nobody had cancelled the task."""


def spawn(name: str, work: Coroutine[Any, Any, T], *, died: Died | None = None) -> asyncio.Task[T]:
    """Start work that nobody awaits. If it raises, that is its death: the loop's exception handler is told, and `died`.
    To return, or to be cancelled by its owner, is a good end."""
    task = asyncio.get_running_loop().create_task(work, name=name)
    _running.add(task)
    task.add_done_callback(partial(_ended, died))
    return task


def awaited(name: str, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """Start work whose result, or error, the caller awaits; it keeps what is returned here until then."""
    return asyncio.get_running_loop().create_task(work, name=name)


def cancelled_from_outside() -> bool:
    """For whoever caught CancelledError: whether the task at hand is to end, or only what it awaited was cancelled."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _ended(died: Died | None, task: asyncio.Task[Any]) -> None:
    _running.discard(task)
    error = _death(task)
    if error is None:
        return
    found = {"message": "a background task died", "exception": error, "task": task, TASK: task.get_name()}
    task.get_loop().call_exception_handler(found)
    if died is not None:
        died(error)


def _death(task: asyncio.Task[Any]) -> BaseException | None:
    if task.cancelled():
        return None if task.cancelling() else CancelledFromInside(task.get_name())
    return task.exception()
