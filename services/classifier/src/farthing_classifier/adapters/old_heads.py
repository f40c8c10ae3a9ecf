"""Heads of one stage in the place of those of two, until those are trained. Goes when they are here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort

from farthing_classifier.adapters.model_files import read_checked, read_json
from farthing_classifier.adapters.onnx_heads import MANIFEST_FILE, SHIPPED
from farthing_classifier.adapters.onnx_runtime import session
from farthing_classifier.domain.analysis import Limits, Scores, Task
from farthing_classifier.domain.calibration import Calibration, Curve
from farthing_classifier.domain.drift import Histogram, Reference
from farthing_classifier.domain.tiers import TIERS
from farthing_classifier.ports import HeadsInfo, Vector


def are_old(folder: Path) -> bool:
    return "sha256" in read_json(folder / MANIFEST_FILE, "")


def identity(heads: str) -> Calibration:
    knots = tuple(number / 4 for number in range(-24, 25))
    curve = Curve(knots, tuple(1 / (1 + math.exp(-knot)) for knot in knots))
    return Calibration("none", heads, dict.fromkeys(TIERS, curve))


class OldHeads:
    """See above."""

    def __init__(self, model: ort.InferenceSession, tasks: tuple[Task, ...], info: HeadsInfo) -> None:
        self._model, self._tasks, self._info = model, tasks, info

    @classmethod
    def load(cls, folder: Path = SHIPPED) -> OldHeads:
        content = read_json(folder / MANIFEST_FILE, "")
        tasks = tuple(Task(name) for name in content["tasks"])
        reference = Reference(
            Histogram((0.5,), (0.5, 0.5)), Histogram((0.5,), (0.5, 0.5)), {task: 1 / len(tasks) for task in tasks}
        )
        info = HeadsInfo(
            content["version"], content["sha256"], content["encoder_sha256"], Limits(0.5, 0.0, 0.0), reference
        )
        return cls(session(read_checked(folder / "heads.onnx", content["sha256"], ""), 1), tasks, info)

    @property
    def info(self) -> HeadsInfo:
        return self._info

    def first(self, ngrams: Sequence[int], lexical: Sequence[float]) -> Scores:
        tasks = {task: 1 / len(self._tasks) for task in self._tasks}
        return Scores((0.0, 0.5, 1.0), tasks, (4.0, 5.0, 6.0), 0.5, doubt=1.0)

    def second(self, embedding: Vector, lexical: Sequence[float], first: Scores) -> Scores:
        feeds = {"embedding": embedding.reshape(1, -1), "lexical": np.asarray([lexical], dtype=np.float32)}
        names = ["complexity", "task", "log_tokens", "familiarity"]
        complexity, tasks, log_tokens, familiarity = self._model.run(names, feeds)
        large, hard = 0.95, float(complexity[0])
        rates = (large * (1 - hard), large * (1 - hard / 2), large)
        small, medium, top = (math.log(max(1e-4, rate) / (1 - rate)) for rate in rates)
        p50, p90 = (float(number) for number in log_tokens[0])
        named = {task: float(p) for task, p in zip(self._tasks, tasks[0], strict=True)}
        return Scores((small, medium, top), named, (p50 - 1, p50, p90), min(1.0, max(0.0, float(familiarity[0]))))
