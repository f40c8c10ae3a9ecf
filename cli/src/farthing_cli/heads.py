"""The classifier's heads and their calibration, as files on this machine."""

import json
import os
from importlib.resources import files
from pathlib import Path

from farthing_cli.state import StateFolder

SHIPPED = Path(str(files("farthing_classifier"))) / "heads"
UNKNOWN = "unknown"


def folder() -> Path:
    """Where a classifier that is started here reads its heads."""
    own = os.environ.get("FARTHING_CLASSIFIER_HEADS_DIR") or os.environ.get("FARTHING_HEADS_DIR")
    return Path(own) if own else SHIPPED


def version() -> str:
    """The version of those heads."""
    return _field(folder() / "heads.json", "version")


def owner(calibration: Path) -> str:
    """The version of the heads that a calibration belongs to."""
    return _field(calibration, "heads")


def calibration(state: StateFolder) -> Path:
    """The calibration in use: what an earlier recalibration wrote, while it belongs to the heads; else the one beside
    them."""
    taught = state.calibration_file
    return taught if taught.exists() and owner(taught) == version() else folder() / "calibration.json"


def _field(file: Path, name: str) -> str:
    try:
        return str(json.loads(file.read_text("utf-8"))[name])
    except (OSError, ValueError, LookupError, TypeError):
        return UNKNOWN
