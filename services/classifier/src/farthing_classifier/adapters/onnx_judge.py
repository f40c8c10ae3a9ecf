"""The trained judge: one small ONNX graph that ships with this package."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from farthing_classifier.adapters.model_files import ModelFilesError, read_checked, read_json
from farthing_classifier.adapters.onnx_runtime import session
from farthing_classifier.domain.judging import word_problems
from farthing_classifier.domain.judging.examination import EVIDENCE, Examination

SHIPPED: Final = Path(__file__).parent.parent / "judge"
MODEL_FILE: Final = "judge.onnx"
MANIFEST_FILE: Final = "judge.json"

# What a prior can be: nothing that is foretold is certain.
MIN_PRIOR: Final = 0.02
MAX_PRIOR: Final = 0.98

_REMEDY: Final = "take judge.onnx and judge.json from one release, or run farthing_models.judge_training"
_NO_NUMBERS: Final = (0.0,) * len(word_problems.NAMES)


@dataclass(frozen=True, slots=True)
class _Manifest:
    version: str
    sha256: str
    default_prior: float


class OnnxJudge:
    """Weighs what was found in an answer, from the prior to a probability."""

    def __init__(self, model: ort.InferenceSession, manifest: _Manifest) -> None:
        self._model = model
        self._default_prior = manifest.default_prior
        self._version = f"{manifest.version}+{manifest.sha256[:12]}"

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> OnnxJudge:
        """The judge in `folder`, checked by its hash; refused when it was trained on other features."""
        manifest = _manifest(read_json(folder / MANIFEST_FILE, _REMEDY))
        return cls(session(read_checked(folder / MODEL_FILE, manifest.sha256, _REMEDY), threads=1), manifest)

    @property
    def version(self) -> str:
        """See ports.Judge."""
        return self._version

    def weigh(self, examination: Examination, prior_success: float | None) -> float:
        """See ports.Judge."""
        prior = self._default_prior if prior_success is None or math.isnan(prior_success) else prior_success
        prior = min(MAX_PRIOR, max(MIN_PRIOR, prior))
        feeds = {
            "numbers": _row(_NO_NUMBERS if examination.numbers is None else examination.numbers),
            "with_numbers": _row((float(examination.numbers is not None),)),
            "evidence": _row(examination.evidence),
            "prior": _row((math.log(prior / (1.0 - prior)),)),
        }
        (acceptable,) = self._model.run(["acceptable"], feeds)
        return min(1.0, max(0.0, float(acceptable[0][0])))


def _row(values: tuple[float, ...]) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    return np.asarray([values], dtype=np.float32)


def _manifest(content: dict[str, Any]) -> _Manifest:
    try:
        manifest = _Manifest(str(content["version"]), str(content["sha256"]), float(content["default_prior"]))
        features = tuple(content["numbers"]), tuple(content["evidence"])
    except (KeyError, TypeError, ValueError):
        raise ModelFilesError("judge.json is not a manifest of the judge") from None
    if features != (word_problems.NAMES, EVIDENCE):
        raise ModelFilesError(
            "the judge was trained on other features: train it again (farthing_models.judge_training)"
        )
    return manifest
