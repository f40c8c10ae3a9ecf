"""Models without ONNX: words hashed into a vector, and heads that read one of its numbers."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from farthing_classifier.domain import window
from farthing_classifier.domain.analysis import Analysis, Scores, Task
from farthing_classifier.ports import Encoded, EncoderInfo, HeadsInfo, Vector

ENCODER = EncoderInfo("hashed words", "e" * 64, dimension=64, window_tokens=32, execution_provider="none")


class FakeEncoder:
    """Texts that share words are near each other. `gate` holds every pass up until it is set."""

    def __init__(self, info: EncoderInfo = ENCODER, gate: threading.Event | None = None) -> None:
        self._info = info
        self._gate = gate
        self.begun = threading.Semaphore(0)

    @property
    def info(self) -> EncoderInfo:
        return self._info

    def encode(self, text: str) -> Encoded:
        self.begun.release()
        if self._gate is not None:
            self._gate.wait(timeout=10)
        ends = window.ends(text)
        words = re.findall(r"\w", ends.text) if " " not in ends.text else re.findall(r"\w+|[^\w\s]", ends.text)
        numbers = [int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:4], "big") for word in words]
        room = self._info.window_tokens - 2
        tokens = window.estimate_tokens(len(numbers), len(ends.head) + len(ends.tail), ends.hidden_chars)
        truncated = len(numbers) > room or ends.hidden_chars > 0
        return Encoded(self._vector(window.fit(numbers, room)), tokens, truncated)

    def _vector(self, numbers: list[int]) -> Vector:
        vector = np.zeros(self._info.dimension, dtype=np.float32)
        vector[0] = 0.1
        for number in numbers:
            vector[number % self._info.dimension] += 1.0
        unit: Vector = vector / np.linalg.norm(vector)
        return unit


class FakeHeads:
    """Complexity is the first lexical feature, squeezed; every text is a chat."""

    def __init__(self, encoder_sha256: str = ENCODER.sha256) -> None:
        self._info = HeadsInfo("fake-heads", "h" * 64, encoder_sha256)

    @property
    def info(self) -> HeadsInfo:
        return self._info

    def score(self, embedding: Vector, lexical: tuple[float, ...]) -> Scores:
        complexity = min(1.0, lexical[0] / 10.0)
        tasks: dict[Task, float] = dict.fromkeys((task for task in Task if task is not Task.UNSPECIFIED), 0.02)
        tasks[Task.CHAT] = 1.0 - 0.02 * (len(tasks) - 1)
        return Scores(complexity, tasks, log_p50_tokens=4.0, log_p90_tokens=5.0, familiarity=float(embedding.max()))


class RecordingObserver:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.open = 0
        self.seen: list[Analysis] = []

    @contextmanager
    def judging(self) -> Iterator[None]:
        self.open += 1
        try:
            yield
        finally:
            self.open -= 1

    def judged(self, analysis: Analysis) -> None:
        self.seen.append(analysis)
