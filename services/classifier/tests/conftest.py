"""The real models: made by `make models`, loaded once for the run."""

from __future__ import annotations

from pathlib import Path

import pytest

from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import OnnxHeads
from services.classifier.tests import tiny_heads

ENCODER_DIR = Path(__file__).parents[3] / "build" / "models" / "encoder"


@pytest.fixture(scope="session")
def encoder_dir() -> Path:
    if not (ENCODER_DIR / "manifest.json").is_file():
        pytest.fail("there is no encoder in build/models/encoder: run `make models`")
    return ENCODER_DIR


@pytest.fixture(scope="session")
def onnx_encoder(encoder_dir: Path) -> OnnxEncoder:
    return OnnxEncoder.load(encoder_dir, window_tokens=128, threads=1)


@pytest.fixture(scope="session")
def tiny_heads_dir(onnx_encoder: OnnxEncoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_heads.write(tmp_path_factory.mktemp("tiny-heads"), onnx_encoder.info.sha256)


@pytest.fixture(scope="session")
def onnx_heads() -> OnnxHeads:
    """The heads that ship with the service."""
    return OnnxHeads.load()
