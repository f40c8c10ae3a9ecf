"""The settings of the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farthing_kit.config import setting
from farthing_kit.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(ServiceSettings):
    """Read from FARTHING_CLASSIFIER_<FIELD>, else FARTHING_<FIELD>."""

    bind: str = setting("127.0.0.1:8082", doc="address that the gRPC server listens on; port 0 takes a free one")

    encoder_dir: Path = setting(Path("build/models/encoder"), doc="folder that farthing_models.export_encoder wrote")
    heads_dir: Path | None = setting(None, doc="folder with heads.onnx and heads.json; empty: those of this package")
    window_tokens: int = setting(
        128, doc="tokens that the encoder reads of a prompt; the shipped heads were trained with 128", min=8, max=512
    )
    threads: int = setting(2, doc="threads of one encoder pass", min=1, max=64)
    workers: int = setting(1, doc="encoder passes at once; with more than one, set threads to 1", min=1, max=64)
    max_waiting: int = setting(128, doc="prompts in progress or waiting; more are refused with UNAVAILABLE", min=1)
