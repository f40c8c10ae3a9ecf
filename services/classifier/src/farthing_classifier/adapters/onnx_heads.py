"""The trained heads: two small ONNX graphs that ship with this package."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from farthing_classifier.adapters.model_files import ModelFilesError, read_checked, read_json
from farthing_classifier.adapters.onnx_runtime import session
from farthing_classifier.domain import lexical, ngrams
from farthing_classifier.domain.analysis import Limits, Scores, Task
from farthing_classifier.domain.drift import Histogram, Reference, must_be_shares
from farthing_classifier.domain.views import Views
from farthing_classifier.ports import HeadsInfo, Vector

SHIPPED: Final = Path(__file__).parent.parent / "heads"
FIRST_FILE: Final = "stage0.onnx"
SECOND_FILE: Final = "stage1.onnx"
MANIFEST_FILE: Final = "heads.json"

_REMEDY: Final = "take the files of the heads from one release, or run `farthing models train-classifier`"
_OUTPUTS: Final = ["tier_scores", "task", "log_tokens", "familiarity"]
# No knowledge: where a number is none (it never was).
_NO_SCORE: Final = 0.0
_NO_LENGTH: Final = 5.0


@dataclass(frozen=True, slots=True)
class _Manifest:
    info: HeadsInfo
    sha256: Mapping[str, str]
    tasks: tuple[Task, ...]


class OnnxHeads:
    """Two stages on one thread each: a pass takes microseconds. They belong to one encoder: `info.encoder_sha256`."""

    def __init__(
        self, first: ort.InferenceSession, second: ort.InferenceSession, tasks: tuple[Task, ...], info: HeadsInfo
    ) -> None:
        self._first = first
        self._second = second
        self._tasks = tasks
        self._info = info

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> OnnxHeads:
        """The heads in `folder`, checked by their hashes; refused when they were trained on other features."""
        manifest = _manifest(folder)
        first, second = (
            session(read_checked(folder / name, manifest.sha256[name], _REMEDY), threads=1)
            for name in (FIRST_FILE, SECOND_FILE)
        )
        return cls(first, second, manifest.tasks, manifest.info)

    @property
    def info(self) -> HeadsInfo:
        """Which heads these are."""
        return self._info

    def first(self, views: Views) -> Scores:
        """The judgement of words and surface alone."""
        feeds = {
            "ngrams": np.asarray(views.whole.ngrams, dtype=np.int64),
            "lexical": np.asarray([views.whole.lexical], dtype=np.float32),
            "rest_ngrams": np.asarray(views.rest.ngrams, dtype=np.int64),
            "rest_lexical": np.asarray([views.rest.lexical], dtype=np.float32),
        }
        *outputs, doubt = self._first.run([*_OUTPUTS, "doubt"], feeds)
        return self._scores(outputs, _share(float(doubt[0]), otherwise=1.0))

    def second(self, embedding: Vector, features: Sequence[float], first: Scores) -> Scores:
        """The judgement of both stages together."""
        feeds = {
            "embedding": embedding.reshape(1, -1),
            "lexical": np.asarray([features], dtype=np.float32),
            "stage0_scores": np.asarray([first.tiers], dtype=np.float32),
        }
        return self._scores(self._second.run(_OUTPUTS, feeds), 0.0)

    def _scores(self, outputs: Sequence[Any], doubt: float) -> Scores:
        tiers, tasks, log_tokens, familiarity = outputs
        small, medium, large = (_finite(float(score), _NO_SCORE) for score in tiers[0])
        p10, p50, p90 = (_finite(float(length), _NO_LENGTH) for length in log_tokens[0])
        return Scores(
            tiers=(small, medium, large),
            tasks={task: _share(float(p), otherwise=0.0) for task, p in zip(self._tasks, tasks[0], strict=True)},
            log_tokens=(p10, p50, p90),
            familiarity=_share(float(familiarity[0]), otherwise=0.0),
            doubt=doubt,
        )


def _manifest(folder: Path) -> _Manifest:
    content = read_json(folder / MANIFEST_FILE, _REMEDY)
    try:
        manifest = _Manifest(
            info=HeadsInfo(
                version=str(content["version"]),
                sha256=hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest(),
                encoder_sha256=str(content["encoder_sha256"]),
                limits=_limits(content),
                reference=_reference(content["drift"]),
            ),
            sha256={name: str(content["files"][name]["sha256"]) for name in (FIRST_FILE, SECOND_FILE)},
            tasks=tuple(Task(name) for name in content["tasks"]),
        )
        features, buckets = tuple(content["lexical_features"]), content["ngrams"]["buckets"]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise ModelFilesError(f"{folder / MANIFEST_FILE} is not a manifest of the heads: {_REMEDY}") from None
    if features != lexical.NAMES or buckets != ngrams.BUCKETS:
        raise ModelFilesError(f"the heads were trained on other lexical features: {_REMEDY}")
    return manifest


def _limits(content: Mapping[str, Any]) -> Limits:
    familiarity = content["limits"]
    return Limits(
        doubt=float(content["doubt_limit"]),
        out_of_domain=float(familiarity["out_of_domain"]),
        no_signal=float(familiarity["no_signal"]),
    )


def _reference(drift: Mapping[str, Any]) -> Reference:
    tasks = {Task(name): float(share) for name, share in drift["tasks"].items()}
    must_be_shares(list(tasks.values()))
    return Reference(_histogram(drift["complexity"]), _histogram(drift["familiarity"]), tasks)


def _histogram(entry: Mapping[str, Any]) -> Histogram:
    """`edges` with both ends, or only the inner ones: values beyond the ends belong to the outermost bins."""
    edges, shares = [tuple(map(float, entry[name])) for name in ("edges", "shares")]
    return Histogram(edges[1:-1] if len(edges) == len(shares) + 1 else edges, shares)


def _share(value: float, otherwise: float) -> float:
    return otherwise if math.isnan(value) else min(1.0, max(0.0, value))


def _finite(value: float, otherwise: float) -> float:
    return value if math.isfinite(value) else otherwise
