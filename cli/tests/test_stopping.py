"""Ctrl-C, at any moment, ends in one line and leaves nothing behind."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing_cli import __main__ as entry
from farthing_cli import replay
from farthing_cli.generation import Answer
from farthing_cli.main import main
from farthing_cli.up import detached
from farthing_cli.up.options import UpOptions


class Interrupted(SimpleNamespace):
    """A module that Ctrl-C meets while it is imported."""

    @property
    def main(self) -> object:
        raise KeyboardInterrupt


def test_before_the_command_line_is_there(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "farthing_cli.main", Interrupted())
    with pytest.raises(SystemExit) as ended:
        entry.run()
    assert (ended.value.code, capsys.readouterr().err) == (130, "\nfarthing: stopped\n")


def test_a_replay_that_is_stopped_shows_what_came_and_was_paid(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    async def stopped(*_: Any, outcome: replay.Outcome, **__: Any) -> None:
        outcome.answers.append(Answer(pb.Decision(), "", pb.Final(), 0.1, 0.2))
        raise KeyboardInterrupt

    monkeypatch.setattr(replay, "replay", stopped)
    done = CliRunner().invoke(main, ["--state", str(tmp_path), "replay"])
    assert done.exit_code == 130
    assert done.output.startswith("1 answered in 0.0 s")
    assert done.output.endswith("\nfarthing: stopped\n")


def test_a_mesh_that_starts_in_the_background_is_stopped_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def sleeping(options: UpOptions) -> list[str]:
        return [sys.executable, "-c", "import time; time.sleep(600)"]

    def interrupted(condition: Any, within_s: float) -> bool:
        cells = [cell.cell_contents for cell in condition.__closure__]
        started.extend(each for each in cells if isinstance(each, subprocess.Popen))
        raise KeyboardInterrupt

    monkeypatch.setattr(detached, "arguments", sleeping)
    monkeypatch.setattr(detached, "wait_until", interrupted)
    with pytest.raises(KeyboardInterrupt):
        detached.start(UpOptions(tmp_path / "state"))
    assert started[0].wait(30) == -15
