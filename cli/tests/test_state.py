"""The state folder."""

import os
from pathlib import Path

import pytest

from farthing_cli.errors import CliError
from farthing_cli.state import FORMAT, RunningMesh, StateFolder

NO_SUCH_PROCESS = 2**22 + 1  # above the largest number that Linux gives


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    prepared = StateFolder(tmp_path / ".farthing")
    prepared.prepare()
    return prepared


def test_a_secret_is_made_once_and_only_its_owner_reads_it(folder: StateFolder) -> None:
    path = folder.secret("mesh")
    first = path.read_text()
    assert folder.secret("mesh").read_text() == first
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_second_mesh_is_refused(folder: StateFolder) -> None:
    with folder.lock(), pytest.raises(CliError, match="already runs"), folder.lock():
        pass


def test_the_lock_is_free_after_use(folder: StateFolder) -> None:
    held = []
    for _ in range(2):
        with folder.lock():
            held.append(True)
    assert held == [True, True]


def test_a_folder_of_another_program_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(CliError, match="was not made by"):
        StateFolder(tmp_path).prepare()


def test_state_of_another_format_is_refused_with_the_way_out(folder: StateFolder) -> None:
    (folder.path / "format").write_text(f"{FORMAT + 1}\n")
    with pytest.raises(CliError, match="remove the folder"):
        folder.prepare()


def test_a_mesh_whose_supervisor_died_is_not_running(folder: StateFolder) -> None:
    folder.write_running(RunningMesh(NO_SUCH_PROCESS, "2026-11-23T00:00:00Z"))
    assert folder.running() is None
    with pytest.raises(CliError, match="farthing up"):
        folder.require_running()


def test_a_running_mesh_is_found_with_its_addresses(folder: StateFolder) -> None:
    mesh = RunningMesh(os.getpid(), "2026-11-23T00:00:00Z", {"gateway": "127.0.0.1:50051"})
    folder.write_running(mesh)
    assert folder.require_running() == mesh


def test_a_damaged_file_counts_as_no_mesh(folder: StateFolder) -> None:
    (folder.path / "mesh.json").write_text('{"supervisor_pid": ')
    assert folder.running() is None
