"""The folder `.farthing/`: everything a mesh started by `farthing up` keeps, and how other commands find it."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from farthing_cli.errors import CliError
from farthing_kit import numbers

# A change to what lies in the folder that an older program could not read counts this up.
FORMAT = 1
MAX_PID = 2**22  # the largest number that Linux gives, and one more


@dataclass(frozen=True)
class RunningMesh:
    """A mesh that runs: who watches over it, and where its parts listen (name → host:port)."""

    supervisor_pid: int
    started_at: str
    addresses: dict[str, str] = field(default_factory=dict)


class StateFolder:
    """One state folder. Files with secrets are readable by their owner only."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def logs(self) -> Path:
        """One file for each process."""
        return self.path / "logs"

    @property
    def traces_file(self) -> Path:
        """Where the collector writes spans, one OTLP JSON object a line."""
        return self.path / "traces" / "spans.jsonl"

    @property
    def mesh_secret_file(self) -> Path:
        """The secret that signs request contexts."""
        return self.path / "secrets" / "mesh"

    @property
    def keys_file(self) -> Path:
        """The API keys of the demonstration tenants (organisation → key)."""
        return self.path / "secrets" / "keys.json"

    @property
    def status_file(self) -> Path:
        """The states of the parts, as the supervisor last saw them."""
        return self.path / "status.json"

    @property
    def calibration_file(self) -> Path:
        """The calibration of the classifier that `farthing models recalibrate` wrote; not there: the shipped one."""
        return self.path / "calibration.json"

    def log_file(self, process: str) -> Path:
        """The log of one process."""
        return self.logs / f"{process}.log"

    def prepare(self) -> None:
        """Make the folder, or check that the one that is there is ours and of this format."""
        marker = self.path / "format"
        if self.path.exists() and not marker.exists() and any(self.path.iterdir()):
            raise CliError(
                f"{self.path} exists and was not made by `farthing up`; move it away, or choose another --state"
            )
        for folder in (self.path, self.logs, self.traces_file.parent, self.mesh_secret_file.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = marker.read_text().strip() if marker.exists() else str(FORMAT)
        if found != str(FORMAT):
            raise CliError(
                f"{self.path} has state of format {found}, this program writes format {FORMAT}; "
                "remove the folder to start anew (its ledger is lost), or use the program that made it"
            )
        marker.write_text(f"{FORMAT}\n")

    def secret(self, name: str) -> Path:
        """The file of a secret of this mesh, made when it is first asked for."""
        path = self.path / "secrets" / name
        if not path.exists():
            write_private(path, secrets.token_hex(32))
        return path

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder: at most one mesh runs in it."""
        with (self.path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CliError(
                    f"a mesh already runs in {self.path}; see `farthing status`, or stop it: farthing down"
                ) from None
            yield

    def write_running(self, mesh: RunningMesh) -> None:
        """Tell other commands that the mesh is there."""
        write_private(self.path / "mesh.json", json.dumps(asdict(mesh), indent=2))

    def clear_running(self) -> None:
        """Tell other commands that it is gone."""
        (self.path / "mesh.json").unlink(missing_ok=True)

    def running(self) -> RunningMesh | None:
        """The mesh that runs here; None when there is none, or its supervisor is dead."""
        try:
            mesh = RunningMesh(**json.loads((self.path / "mesh.json").read_bytes()))
            whole = isinstance(mesh.addresses, dict) and numbers.whole(mesh.supervisor_pid, 2, MAX_PID)
        except (OSError, ValueError, TypeError, RecursionError):
            return None
        return mesh if whole and is_alive(mesh.supervisor_pid) else None

    def require_running(self) -> RunningMesh:
        """The mesh that runs here; one clear line when there is none."""
        mesh = self.running()
        if mesh is None:
            raise CliError(f"no mesh runs in {self.path}; start one: farthing up")
        return mesh

    def write_keys(self, keys: Mapping[str, str]) -> None:
        """Keep the API keys of the demonstration tenants."""
        write_private(self.keys_file, json.dumps(dict(keys), indent=2))

    def keys(self) -> dict[str, str]:
        """Those keys; empty before the first start is complete."""
        try:
            keys = json.loads(self.keys_file.read_bytes())
        except FileNotFoundError:
            return {}
        except (ValueError, RecursionError):
            keys = None
        if not isinstance(keys, dict) or not all(isinstance(key, str) for key in keys.values()):
            raise CliError(f"{self.keys_file} is damaged; move it away, and make new keys: farthing keys create ORG")
        return keys


def write_private(path: Path, text: str) -> None:
    """Write a whole file that only its owner may read, or nothing of it."""
    partial = path.with_name(f"{path.name}.part")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as handle:
        handle.write(text)
    partial.replace(path)


def is_alive(pid: int) -> bool:
    """Whether a process with this number runs."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
