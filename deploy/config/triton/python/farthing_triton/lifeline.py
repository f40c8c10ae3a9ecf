"""Notices that the server is stopping, or gone.

Triton asks its models to finish only after their last request has ended, and a request may run for minutes. And a
backend process whose server was killed goes on generating. So serve.py holds one end of a pipe, and each backend
process the other: the pipe ends when serve.py is asked to stop, and also when it dies in any way.
"""

import ctypes
import fcntl
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

LIFELINE_FD = "FARTHING_TRITON_LIFELINE_FD"
# By then serve.py has killed the server.
GONE_AFTER_S = 11.0
SHARED_MEMORY = Path("/dev/shm")
REGION_ARGUMENT = 2  # triton_python_backend_stub MODEL REGION …


def watch(stopping: Callable[[], None]) -> None:
    """Call `stopping` once, from another thread, when the pipe ends; end this process if it outlives that by far.
    Without serve.py, in an image of Triton's makers, there is no pipe, and nothing to do."""
    number = os.environ.get(LIFELINE_FD)
    if number is not None:
        _region().unlink(missing_ok=True)
        _have_the_kernel_watch(int(number))
        threading.Thread(target=_wait, args=(int(number), stopping), name="lifeline", daemon=True).start()


def _have_the_kernel_watch(pipe: int) -> None:
    """A server that dies while it takes over a request leaves its stub in a wait for it that holds Python's lock for
    ever: no thread of Python could end the process then. So the end of the pipe is a signal too, whose handler is
    `alarm` itself: called with the signal's number, it has the kernel end this process after so many seconds."""
    signal_of_end = signal.SIGUSR2
    assert signal_of_end >= GONE_AFTER_S, "the thread below comes first, where it can"
    libc = ctypes.CDLL(None)
    libc.signal(signal_of_end, libc.alarm)
    own = os.open(f"/proc/self/fd/{pipe}", os.O_RDONLY)  # the pipe that was inherited has one owner for all models
    fcntl.fcntl(own, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(own, fcntl.F_SETSIG, signal_of_end)
    fcntl.fcntl(own, fcntl.F_SETFL, os.O_ASYNC)


def _wait(pipe: int, stopping: Callable[[], None]) -> None:
    os.read(pipe, 1)  # nobody writes: it returns at the end
    threading.Thread(target=stopping, name="stopping", daemon=True).start()
    threading.Event().wait(GONE_AFTER_S)
    os._exit(1)


def _region() -> Path:
    arguments = Path("/proc/self/cmdline").read_bytes().split(b"\0")
    return SHARED_MEMORY / Path(os.fsdecode(arguments[REGION_ARGUMENT])).name
