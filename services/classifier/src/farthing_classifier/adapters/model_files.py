"""Model files: read whole, and checked against what was promised."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final

MAX_MODEL_BYTES: Final = 512 * 1024 * 1024


class ModelFilesError(RuntimeError):
    """A model file is missing, or not what it should be. The text is one line and says what to do."""


def read_json(path: Path, remedy: str) -> dict[str, Any]:
    """The object in a JSON file. `remedy` says how to make the file: "run …"."""
    try:
        value = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelFilesError(f"{path} is missing: {remedy}") from None
    except (OSError, ValueError) as error:
        raise ModelFilesError(f"{path} cannot be read ({type(error).__name__}): {remedy}") from None
    if not isinstance(value, dict):
        raise ModelFilesError(f"{path} does not hold a JSON object: {remedy}")
    return value


def read_checked(path: Path, sha256: str, remedy: str) -> bytes:
    """The bytes of a file whose SHA-256 is known."""
    try:
        size = path.stat().st_size
        blob = path.read_bytes() if size <= MAX_MODEL_BYTES else b""
    except FileNotFoundError:
        raise ModelFilesError(f"{path} is missing: {remedy}") from None
    except OSError as error:
        raise ModelFilesError(f"{path} cannot be read ({type(error).__name__}): {remedy}") from None
    if size > MAX_MODEL_BYTES:
        raise ModelFilesError(f"{path} is larger than {MAX_MODEL_BYTES} bytes: {remedy}")
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise ModelFilesError(f"{path} is not the file that its manifest names: {remedy}")
    return blob
