"""`farthing models`: which models there are, and how those of the classifier are made better."""

import importlib
import json
import tempfile
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import click

from farthing.classifier.v1 import classifier_service_pb2 as pb
from farthing.classifier.v1 import classifier_service_pb2_grpc as pb_grpc
from farthing_cli import ask, heads, outcomes
from farthing_cli.arguments import MAX_INT32, SINCE_HELP, Label, Moment, Text, Whole
from farthing_cli.console import console, say, say_lines
from farthing_cli.errors import CliError, complete
from farthing_cli.mesh import Mesh, find
from farthing_kit.errors import FarthingError

INFO_TIMEOUT_S: Final = 5.0
DRIFT: Final = "prompts of late are unlike those it was trained on: consider new heads"


@click.group(invoke_without_command=True)
@click.option("--org", type=Label(), help="As this demonstration tenant.")
@click.pass_context
def models(context: click.Context, org: str | None) -> None:
    """The models that can be asked for, and what judges prompts; or a command on the latter."""
    if context.invoked_subcommand is not None:
        return
    mesh = find(context.obj)
    console().print(ask.models_table(complete(ask.models(mesh, org))))
    if mesh.classifier is not None and mesh.mesh_secret_file is not None:
        say_lines(complete(_classifier(mesh)))


@models.command("recalibrate")
@click.option(
    "--outcomes",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Outcomes in a file of JSON lines, as `farthing outcomes` prints them; else those of the mesh.",
)
@click.option("--since", type=Moment(), help=SINCE_HELP)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The file to write; else calibration.json of --state, which the next `farthing up` uses.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The calibration in use; else that of --state, or the one beside the heads.",
)
@click.option(
    "--min-outcomes",
    type=Whole(2, MAX_INT32),
    default=50,
    show_default=True,
    help="A tier with fewer keeps its calibration.",
)
@click.option("--force", is_flag=True, help="Write it even where it is worse on the outcomes held out, and say so.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_obj
def recalibrate(
    state: Path,
    file: Path | None,
    since: datetime | None,
    out: Path | None,
    calibration: Path | None,
    min_outcomes: int,
    force: bool,
    as_json: bool,
) -> None:
    """Fit the classifier's probabilities on what callers said about answers.

    Some of the outcomes are held out: only a calibration that is no worse on them is written. Exit code 1 when nothing
    was written.
    """
    command = _of_models("recalibrate")
    mesh = find(state)
    words = ["--min-outcomes", str(min_outcomes), *_since(since)]
    words += [*(["--force"] if force else []), *(["--json"] if as_json else [])]
    words += ["--calibration", str(calibration or heads.calibration(mesh.state))]
    with tempfile.TemporaryDirectory() as folder:
        words += ["--outcomes", str(file or _collected(mesh, Path(folder), since))]
        if out is None:
            mesh.state.prepare()
        code = command.main([*words, "--out", str(out or mesh.state.calibration_file)])
    if code != 0:
        raise SystemExit(code)
    if out is None and not as_json:
        say("restart the mesh to use it: farthing down, farthing up")


@models.command("train-classifier", context_settings={"ignore_unknown_options": True})
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    required=True,
    help="Folder with the outcome sets.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write heads/ and judge/ into; else where the service looks.",
)
@click.argument("options", nargs=-1, type=Text())
def train_classifier(data: Path, out: Path | None, options: tuple[str, ...]) -> None:
    """Train the classifier's heads, their calibration, and the judge of answers.

    Further OPTIONS go to the training of the heads; python -m farthing_models.train_classifier --help names them.
    """
    for name, folder, further in (("train_classifier", "heads", options), ("judge_training", "judge", ())):
        command = _of_models(name)
        place = out / folder if out is not None else Path(command.SHIPPED)
        say(f"{folder}: training; the figures are of what was held out")
        if code := command.main(["--data", str(data), "--out", str(place), *further]):
            raise SystemExit(code)
        say(f"{folder}: wrote {place}")


def classifier_lines(info: pb.GetModelInfoResponse) -> list[str]:
    """What judges prompts; in a second line, whether it still knows what it sees."""
    parts = [info.model_version, f"calibration {info.calibration_version}", f"judge {info.judge_version}"]
    line = f"classifier: {', '.join(part for part in parts if not part.endswith(' '))}, on {info.execution_provider}"
    return [line, *([f"classifier: {DRIFT}"] if info.drift.drifted else [])]


async def _classifier(mesh: Mesh) -> list[str]:
    """What the classifier says of itself; requests are answered without it, and so is this one."""
    try:
        async with mesh.as_operator("classifier") as opened:
            stub = pb_grpc.ClassifierServiceStub(opened)
            return classifier_lines(await stub.GetModelInfo(pb.GetModelInfoRequest(), timeout=INFO_TIMEOUT_S))
    except FarthingError as error:
        return [f"classifier: {error.message}"]


def _collected(mesh: Mesh, folder: Path, since: datetime | None) -> Path:
    """The outcomes of the mesh, in a file."""
    file = folder / "outcomes.jsonl"
    rows = [json.dumps(outcomes.as_dict(each)) for each in complete(outcomes.observed(mesh, since))]
    file.write_text("".join(f"{row}\n" for row in rows), "utf-8")
    return file


def _since(since: datetime | None) -> Sequence[str]:
    return ["--since", since.isoformat()] if since else []


def _of_models(name: str) -> Any:
    """A command of the package that makes models, which only who makes them needs to have."""
    try:
        return importlib.import_module(f"farthing_models.{name}")
    except ModuleNotFoundError as error:
        raise CliError(
            f"this needs the package farthing-models with its extra train, but {error.name} is not installed"
        ) from None
