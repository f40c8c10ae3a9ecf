"""What the command says when it cannot go on: one line that names the next step."""

import click


class CliError(click.ClickException):
    """A failure with a line for the user; the command ends with exit code 1."""

    def show(self, file: object = None) -> None:
        """Print the line to standard error."""
        click.echo(f"farthing: {self.message}", err=True)
