"""The calibration: the one that ships with the heads, or a file of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from farthing_classifier.adapters.model_files import ModelFilesError, read_json
from farthing_classifier.domain.calibration import Calibration, CalibrationError, parse

CALIBRATION_FILE: Final = "calibration.json"

_REMEDY: Final = "take it from the release of the heads, or run `farthing models recalibrate`"


def load(path: Path, heads: str) -> Calibration:
    """The calibration in a file, refused when it is none, or when it belongs to other heads."""
    try:
        calibration = parse(read_json(path, _REMEDY))
        calibration.must_belong_to(heads)
    except CalibrationError as error:
        raise ModelFilesError(f"{path}: {error}: {_REMEDY}") from None
    return calibration
