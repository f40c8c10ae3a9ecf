"""How every command ends that cannot go on: one line that says what to do, and an exit code.

1: the mesh could not, or would not, or what was checked is wrong. 2: what was typed, or stands in a file or in the
environment, cannot be used; nothing was sent. 130: stopped by Ctrl-C.
"""

import asyncio
import io
import os
import signal
import sys
import threading
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import click

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_cli.__main__ import STOPPED
from farthing_cli.console import complain
from farthing_kit.errors import FarthingError

# Where parts of a mesh are that does not run here.
ADDRESSES = ("FARTHING_GATEWAY", "FARTHING_ACCOUNTING", "FARTHING_CLASSIFIER", "FARTHING_CACHE")

T = TypeVar("T")


class CliError(click.ClickException):
    """A failure with a line for the user."""

    def show(self, file: object = None) -> None:
        """Print the line to standard error."""
        complain(self.message)


class InputError(CliError):
    """What the user gave cannot be used as it is."""

    exit_code = 2


def refused(error: FarthingError) -> str:
    """What the mesh said, with its reason; of a part that cannot be reached also which variable says where it is."""
    text = f"{error.message} ({error.reason_name.removeprefix('ERROR_REASON_')})"
    away = error.reason == ErrorReason.ERROR_REASON_SERVICE_UNAVAILABLE
    named = [f"{name} is {os.environ[name]}" for name in ADDRESSES if away and os.environ.get(name)]
    return "; ".join([text, *named])


def complete(work: Coroutine[object, object, T]) -> T:
    """Run one command's work. SIGTERM and SIGHUP stop it as Ctrl-C does: what has begun ends in good order."""
    told: list[int] = []
    try:
        return asyncio.run(_until_told(work, told))
    except asyncio.CancelledError:
        raise SystemExit(128 + told[0] if told else STOPPED) from None


async def _until_told(work: Coroutine[object, object, T], told: list[int]) -> T:
    task = asyncio.current_task()
    assert task is not None

    def stop(number: int) -> None:
        told.append(number)
        task.cancel()

    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, stop, number)
    return await work


class Farthing(click.Group):
    """The command `farthing`: the one place where errors end."""

    def main(self, *arguments: Any, standalone_mode: bool = True, **options: Any) -> NoReturn:
        """Run the command line; ends the process."""
        del standalone_mode
        for out in (sys.stdout, sys.stderr):
            if isinstance(out, io.TextIOWrapper):
                out.reconfigure(errors="backslashreplace")
        try:
            code: Any = super().main(*arguments, standalone_mode=False, **options)  # type: ignore[call-overload]
        except click.exceptions.NoArgsIsHelpError as error:
            error.show()
            code = error.exit_code
        except click.UsageError as error:
            where = f"; see {error.ctx.command_path} --help" if error.ctx is not None else ""
            complain(f"{error.format_message().rstrip('.')}{where}")
            code = error.exit_code
        except click.ClickException as error:
            error.show()
            code = error.exit_code
        except FarthingError as error:
            complain(refused(error))
            code = 1
        except click.Abort:
            complain("stopped")
            code = STOPPED
        except BrokenPipeError:  # the reader, such as `head`, has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = 1
        except OSError as error:
            complain(f"{error.filename or 'the system'}: {error.strerror or error}")
            code = 1
        sys.exit(code if isinstance(code, int) else 0)
