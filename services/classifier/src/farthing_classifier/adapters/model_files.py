"""Model files: read whole, checked against what was promised, and never with data outside of them."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

MAX_MODEL_BYTES: Final = 512 * 1024 * 1024
EXPORT_COMMAND: Final = "python -m farthing_models.export_encoder --out"


class ModelFilesError(RuntimeError):
    """A model file is missing, or not what it should be. The text is one line and says what to do."""


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelFilesError(f"{path} is missing; make it with: {EXPORT_COMMAND} {path.parent}") from None
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path} cannot be read: {type(error).__name__}") from None
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path} does not hold a JSON object")
    return value


def read_checked(path: Path, sha256: str) -> bytes:
    """The bytes of a file whose SHA-256 is known."""
    try:
        if path.stat().st_size > MAX_MODEL_BYTES:
            raise ModelFilesError(f"{path} is larger than {MAX_MODEL_BYTES} bytes")
        blob = path.read_bytes()
    except FileNotFoundError:
        raise ModelFilesError(f"{path} is missing; make it with: {EXPORT_COMMAND} {path.parent}") from None
    except OSError as error:
        raise ModelFilesError(f"{path} cannot be read: {type(error).__name__}") from None
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise ModelFilesError(
            f"{path} is not the file of its manifest; make it again with: {EXPORT_COMMAND} {path.parent} --force"
        )
    return blob
