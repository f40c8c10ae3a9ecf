"""Where tables and bars are drawn."""

from rich.console import Console

# Into a file or a pipe there is no width to fit; a table is not cut there.
PIPE_COLUMNS = 160


def console() -> Console:
    """The terminal, or something wide."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=PIPE_COLUMNS)
