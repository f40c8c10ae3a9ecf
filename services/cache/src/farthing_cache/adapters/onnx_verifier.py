"""The pair verifier on ONNX Runtime."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from farthing_cache.domain import pair_features
from farthing_cache.domain.errors import VerifierError
from farthing_cache.domain.profile import Profile
from farthing_cache.domain.ranking import ranked

SHIPPED: Final = Path(str(resources.files("farthing_cache"))) / "verifier"
MODEL_FILE: Final = "verifier.onnx"
MANIFEST_FILE: Final = "verifier.json"

_LOG_ERRORS_ONLY: Final = 3


class OnnxVerifier:
    """Judges pairs of profiles. `threshold` is the probability to ask for without labels of one's own; cosines must be
    those of the encoder `encoder_sha256`."""

    def __init__(self, model: ort.InferenceSession, version: str, threshold: float, encoder_sha256: str) -> None:
        self._model = model
        self.version = version
        self.threshold = threshold
        self.encoder_sha256 = encoder_sha256

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> OnnxVerifier:
        """What pair_training wrote into `folder`; VerifierError if it does not belong to this code."""
        try:
            manifest = json.loads((folder / MANIFEST_FILE).read_text("utf-8"))
            graph = (folder / MODEL_FILE).read_bytes()
            _check(manifest, graph)
            return cls(
                _session(graph), str(manifest["version"]), float(manifest["threshold"]), str(manifest["encoder_sha256"])
            )
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise VerifierError(f"the verifier in {folder.name}/ cannot be read: {type(error).__name__}") from None

    def score(self, asked: Profile, kept: Profile, cosine: float) -> float:
        """What the guard decides on: how near the two are, unless the verifier objects (domain/ranking.py)."""
        return ranked(self.scores(asked, [kept], [cosine])[0], cosine)

    def scores(self, asked: Profile, kept: Sequence[Profile], cosines: Sequence[float]) -> list[float]:
        """The calibrated probability that the answer to each of `kept`, none of them vetoed, serves `asked`."""
        rows = [
            pair_features.features(asked, one, cosine, vetoed=False) for one, cosine in zip(kept, cosines, strict=True)
        ]
        return [float(one) for one in self.probabilities(np.asarray(rows, np.float32))] if rows else []

    def probabilities(self, features: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
        """The same for rows of pair_features."""
        try:
            return np.asarray(self._model.run(["probability"], {"features": features})[0], np.float64)
        except Exception as error:  # ONNX Runtime raises many types of its own
            raise VerifierError(f"the verifier failed: {type(error).__name__}") from None


def _check(manifest: dict[str, Any], graph: bytes) -> None:
    if hashlib.sha256(graph).hexdigest() != manifest["sha256"]:
        raise VerifierError("verifier.onnx is not the file that verifier.json names: train it again")
    if manifest["features"] != list(pair_features.NAMES) or manifest["profile_version"] != pair_features.VERSION:
        raise VerifierError("the verifier was trained on other features: run python -m farthing_models.pair_training")


def _session(graph: bytes) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = _LOG_ERRORS_ONLY
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", os.devnull)
    return ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
