"""Where the servers' programs and configuration files are."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path
from typing import Final

from farthing_kit.local.process import LocalError

CONFIG_VARIABLE: Final = "FARTHING_CONFIG_DIR"


def program(distribution: str, name: str) -> str:
    """The path of a program that an installed package holds; one clear line if the package is missing."""
    try:
        files = importlib.metadata.files(distribution) or []
    except importlib.metadata.PackageNotFoundError:
        raise LocalError(f"the package {distribution} is not installed; run `make setup`") from None
    for file in files:
        if file.name == name:
            return str(_executable(Path(str(file.locate())).resolve()))
    raise LocalError(f"the package {distribution} holds no program {name}; run `make setup` again")


def _executable(path: Path) -> Path:
    if not os.access(path, os.X_OK):
        path.chmod(path.stat().st_mode | 0o755)
    return path


def config_dir() -> Path:
    """The folder deploy/config of this checkout, or the one that FARTHING_CONFIG_DIR names."""
    named = os.environ.get(CONFIG_VARIABLE)
    folder = Path(named) if named else Path(__file__).resolve().parents[5] / "deploy" / "config"
    if not folder.is_dir():
        raise LocalError(f"there is no folder {folder}; set {CONFIG_VARIABLE} to the repository's deploy/config")
    return folder
