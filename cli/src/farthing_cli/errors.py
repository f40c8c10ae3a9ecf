"""What the command says when it cannot go on: one line that names the next step."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

import click

from farthing_kit.errors import FarthingError

T = TypeVar("T")


class CliError(click.ClickException):
    """A failure with a line for the user; the command ends with exit code 1."""

    def show(self, file: object = None) -> None:
        """Print the line to standard error."""
        click.echo(f"farthing: {self.message}", err=True)


def complete(work: Coroutine[object, object, T]) -> T:
    """Run one command's work; what the mesh refuses becomes one line with its reason."""
    try:
        return asyncio.run(work)
    except FarthingError as error:
        raise CliError(f"{error.message} ({error.reason_name.removeprefix('ERROR_REASON_')})") from None
