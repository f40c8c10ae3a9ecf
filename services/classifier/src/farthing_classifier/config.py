"""The settings of the classifier."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from farthing_classifier.adapters.onnx_runtime import Device
from farthing_kit.config import setting
from farthing_kit.settings import ServiceSettings


@dataclass(frozen=True, kw_only=True)
class ClassifierSettings(ServiceSettings):
    """Read from FARTHING_CLASSIFIER_<FIELD>, else FARTHING_<FIELD>."""

    bind: str = setting("127.0.0.1:8082", doc="address that the gRPC server listens on; port 0 takes a free one")

    encoder_dir: Path = setting(Path("build/models/encoder"), doc="folder that farthing_models.export_encoder wrote")
    heads_dir: Path | None = setting(None, doc="folder with the files of the heads; empty: those of this package")
    calibration_file: Path | None = setting(
        None, doc="a calibration of one's own, which belongs to the heads; empty: the one beside them"
    )
    device: Device = setting(Device.AUTO, doc="where the encoder runs: auto takes a GPU where there is one, cpu, cuda")
    window_tokens: int = setting(
        128, doc="tokens that the encoder reads of a prompt; the shipped heads were trained with 128", min=8, max=512
    )
    threads: int = setting(2, doc="threads for a prompt that is alone in the house", min=1, max=64)
    workers: int = setting(2, doc="encoder passes at once, each with one thread: as many as cores", min=1, max=64)
    max_batch: int = setting(8, doc="waiting prompts that a worker takes at once; 1: no micro-batches", min=1, max=64)
    max_waiting: int = setting(128, doc="prompts in progress or waiting; more are refused with UNAVAILABLE", min=1)
    drift_window: int = setting(2_000, doc="prompts that drift is measured over", min=100, max=100_000)
    drift_min_prompts: int = setting(200, doc="with fewer prompts in the window, nothing has drifted", min=1)
    drift_limit: float = setting(0.25, doc="a population stability index above this is drift", min=0.0)
