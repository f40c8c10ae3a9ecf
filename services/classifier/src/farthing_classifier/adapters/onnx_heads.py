"""The trained heads: one small ONNX graph that ships with this package."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from farthing_classifier.adapters.model_files import ModelFilesError, read_checked, read_json
from farthing_classifier.adapters.onnx_runtime import session
from farthing_classifier.domain import lexical
from farthing_classifier.domain.analysis import Scores, Task
from farthing_classifier.ports import HeadsInfo, Vector

SHIPPED: Final = Path(__file__).parent.parent / "heads"
MODEL_FILE: Final = "heads.onnx"
MANIFEST_FILE: Final = "heads.json"

_REMEDY: Final = "take heads.onnx and heads.json from one release, or run farthing_models.train_heads"
_OUTPUTS: Final = ["complexity", "task", "log_tokens", "familiarity"]


@dataclass(frozen=True, slots=True)
class _Manifest:
    version: str
    sha256: str
    encoder_sha256: str
    tasks: tuple[Task, ...]


class OnnxHeads:
    """Scores an embedding. The heads belong to one encoder: `info.encoder_sha256` names it."""

    def __init__(self, model: ort.InferenceSession, tasks: tuple[Task, ...], info: HeadsInfo) -> None:
        self._model = model
        self._tasks = tasks
        self._info = info

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> OnnxHeads:
        """The heads in `folder`, checked by their hash; refused when they were trained on other features."""
        manifest = _manifest(read_json(folder / MANIFEST_FILE, _REMEDY))
        model = read_checked(folder / MODEL_FILE, manifest.sha256, _REMEDY)
        info = HeadsInfo(manifest.version, manifest.sha256, manifest.encoder_sha256)
        return cls(session(model, threads=1), manifest.tasks, info)

    @property
    def info(self) -> HeadsInfo:
        """Which heads these are."""
        return self._info

    def score(self, embedding: Vector, lexical_features: tuple[float, ...]) -> Scores:
        """One row in, one judgement out; a number that is none (it never was) counts as no knowledge."""
        feeds = {
            "embedding": embedding.reshape(1, -1),
            "lexical": np.asarray([lexical_features], dtype=np.float32),
        }
        complexity, tasks, log_tokens, familiarity = self._model.run(_OUTPUTS, feeds)
        return Scores(
            complexity=_probability(float(complexity[0]), otherwise=0.5),
            tasks={task: _probability(float(p), otherwise=0.0) for task, p in zip(self._tasks, tasks[0], strict=True)},
            log_p50_tokens=float(log_tokens[0][0]),
            log_p90_tokens=float(log_tokens[0][1]),
            familiarity=_probability(float(familiarity[0]), otherwise=0.0),
        )


def _manifest(content: dict[str, Any]) -> _Manifest:
    try:
        names = tuple(content["lexical_features"])
        manifest = _Manifest(
            version=str(content["version"]),
            sha256=str(content["sha256"]),
            encoder_sha256=str(content["encoder_sha256"]),
            tasks=tuple(Task(name) for name in content["tasks"]),
        )
    except (KeyError, TypeError, ValueError):
        raise ModelFilesError("heads.json is not a manifest of the heads") from None
    if names != lexical.NAMES:
        raise ModelFilesError(
            "the heads were trained on other lexical features: train them again (farthing_models.train_heads)"
        )
    return manifest


def _probability(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else min(1.0, max(0.0, value))
