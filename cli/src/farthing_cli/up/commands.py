"""The commands that start, stop and watch a mesh on this machine."""

import asyncio
from pathlib import Path

import click

from farthing_cli import replay
from farthing_cli.arguments import MAX_INT32, Label, Whole
from farthing_cli.console import console, say
from farthing_cli.errors import CliError
from farthing_cli.state import StateFolder
from farthing_cli.up import detached, table
from farthing_cli.up.options import UpOptions, parse_models, parse_ports
from farthing_cli.up.session import Session, serve

DEFAULT_MODELS = "small,medium,large,echo"


def up_options(command: click.decorators.FC) -> click.decorators.FC:
    """The options that `up` and `run` share."""
    for option in (
        click.option(
            "--port",
            "ports",
            type=Label(),
            multiple=True,
            metavar="PART=PORT",
            help="A port for a part, such as gateway=50051; 0: any free one.",
        ),
        click.option(
            "--pools",
            "pools_file",
            type=click.Path(path_type=Path, dir_okay=False, exists=True, resolve_path=True),
            help="Describe the pools with this file instead of the checkout's.",
        ),
        click.option(
            "--models",
            type=Label(most=1024),
            default=DEFAULT_MODELS,
            show_default=True,
            help="The models that Triton loads.",
        ),
        click.option(
            "--otlp",
            type=Label(most=2048),
            default="",
            metavar="URL",
            help="Send traces to this OTLP/gRPC endpoint too, such as Jaeger's.",
        ),
    ):
        command = option(command)
    return command


@click.command()
@up_options
@click.option("--detach", "-d", is_flag=True, help="Return when the mesh is ready; it runs on.")
@click.pass_obj
def up(state: Path, ports: tuple[str, ...], models: str, otlp: str, pools_file: Path | None, detach: bool) -> None:
    """Start the mesh: real Redis, NATS, PostgreSQL, Triton, a collector, and the six services."""
    options = UpOptions(state.absolute(), parse_ports(ports), parse_models(models), otlp, pools_file)
    if detach:
        detached.start(options)
        console().print(table.table(table.read(StateFolder(state).status_file)))
    else:
        asyncio.run(serve(options, console(), _until_stopped))


async def _until_stopped(session: Session) -> None:
    """Say how to ask, and wait for Ctrl-C."""
    session.say_how_to_ask()
    await session.wait()


@click.command()
@up_options
@click.option("--once", is_flag=True, help="Stop after the report.")
@click.option("--concurrency", type=Whole(1, 1024), default=4, show_default=True, help="Requests in flight at most.")
@click.pass_obj
def run(
    state: Path, ports: tuple[str, ...], models: str, otlp: str, pools_file: Path | None, once: bool, concurrency: int
) -> None:
    """Start the mesh, replay the bundled sample, show what it cost; then keep serving."""
    options = UpOptions(state.absolute(), parse_ports(ports), parse_models(models), otlp, pools_file)

    async def show_and_serve(session: Session) -> None:
        failed = await session.replay_and_report(replay.Load(concurrency=concurrency))
        if once:
            if failed:
                raise CliError(f"{failed} requests of the sample failed")
            return
        await _until_stopped(session)

    asyncio.run(serve(options, console(), show_and_serve))


@click.command()
@click.pass_obj
def down(state: Path) -> None:
    """Stop the mesh that runs in the background."""
    detached.stop(StateFolder(state))
    say("the mesh is down")


@click.command()
@click.pass_obj
def status(state: Path) -> None:
    """The parts of the mesh and their states."""
    folder = StateFolder(state)
    folder.require_running()
    console().print(table.table(table.read(folder.status_file)))


@click.command()
@click.argument("service", type=Label(least=1))
@click.option("--follow", "-f", is_flag=True, help="Go on with what is written from now on.")
@click.option(
    "--lines", "-n", type=Whole(1, MAX_INT32), default=50, show_default=True, help="Begin with the last N lines."
)
@click.pass_obj
def logs(state: Path, service: str, follow: bool, lines: int) -> None:
    """What a part of the mesh wrote."""
    detached.show_log(StateFolder(state), service, lines=lines, follow=follow)


def register(group: click.Group) -> None:
    """Add these commands to the command line."""
    for command in (up, run, down, status, logs):
        group.add_command(command)
