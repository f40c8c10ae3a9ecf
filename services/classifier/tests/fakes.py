"""Models without ONNX: words hashed into a vector, and heads that read one of the lexical features."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from farthing_classifier.domain import window
from farthing_classifier.domain.analysis import Analysis, Limits, Scores, Task
from farthing_classifier.domain.calibration import Calibration, Curve
from farthing_classifier.domain.drift import Drift, Histogram, Reference
from farthing_classifier.domain.tiers import TIERS
from farthing_classifier.domain.views import Views
from farthing_classifier.ports import Encoded, EncoderInfo, HeadsInfo, Reading, Vector

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
        return self.embed(self.read([text])[0], alone=True)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        return [self._reading(text) for text in texts]

    def embed(self, reading: Reading, *, alone: bool) -> Encoded:
        self.begun.release()
        if self._gate is not None:
            self._gate.wait(timeout=10)
        return Encoded(self._vector(reading.ids), reading.prompt_tokens, reading.truncated)

    def _reading(self, text: str) -> Reading:
        ends = window.ends(text)
        words = re.findall(r"\w", ends.text) if " " not in ends.text else re.findall(r"\w+|[^\w\s]", ends.text)
        numbers = [int.from_bytes(hashlib.sha256(word.lower().encode()).digest()[:4], "big") for word in words]
        room = self._info.window_tokens - 2
        tokens = window.estimate_tokens(len(numbers), len(ends.head) + len(ends.tail), ends.hidden_chars)
        return Reading(tuple(window.fit(numbers, room)), tokens, len(numbers) > room or ends.hidden_chars > 0)

    def _vector(self, numbers: Sequence[int]) -> Vector:
        vector = np.zeros(self._info.dimension, dtype=np.float32)
        vector[0] = 0.1
        for number in numbers:
            vector[number % self._info.dimension] += 1.0
        unit: Vector = vector / np.linalg.norm(vector)
        return unit


REFERENCE = Reference(Histogram((0.5,), (0.5, 0.5)), Histogram((0.5,), (0.5, 0.5)), {Task.CHAT: 0.5, Task.CODE: 0.5})
LIMITS = Limits(doubt=0.3, out_of_domain=0.05, no_signal=0.01)
_STEPS = (-4.0, 4.0)


def calibration(heads: str = "fake-heads") -> Calibration:
    return Calibration("fake-calibration", heads, dict.fromkeys(TIERS, Curve(_STEPS, (0.1, 0.9))))


class FakeHeads:
    """The longer a text, the less the small tier does; every text is a chat. The first stage has `doubt`, and the
    second moves the small tier's score by 0.5."""

    def __init__(
        self,
        encoder_sha256: str = ENCODER.sha256,
        doubt: float = 1.0,
        familiarity: float = 0.5,
        limits: Limits = LIMITS,
    ) -> None:
        self._info = HeadsInfo("fake-heads", "h" * 64, encoder_sha256, limits, REFERENCE)
        self._doubt = doubt
        self._familiarity = familiarity

    @property
    def info(self) -> HeadsInfo:
        return self._info

    def first(self, views: Views) -> Scores:
        tasks: dict[Task, float] = dict.fromkeys((task for task in Task if task is not Task.UNSPECIFIED), 0.02)
        tasks[Task.CHAT] = 1.0 - 0.02 * (len(tasks) - 1)
        return Scores(
            (1.0 - views.whole.lexical[0] / 4.0, 0.5, 1.0), tasks, (3.0, 4.0, 5.0), self._familiarity, self._doubt
        )

    def second(self, embedding: Vector, lexical: Sequence[float], first: Scores) -> Scores:
        small, medium, large = first.tiers
        return Scores((small - 0.5, medium, large), first.tasks, first.log_tokens, self._familiarity)


class RecordingObserver:
    """Keeps what it was told."""

    def __init__(self) -> None:
        self.open = 0
        self.seen: list[Analysis] = []
        self.drifts: list[Drift] = []
        self.batches: list[int] = []

    @contextmanager
    def judging(self) -> Iterator[Callable[[Analysis], None]]:
        self.open += 1
        try:
            yield self.seen.append
        finally:
            self.open -= 1

    def drifting(self, drift: Drift) -> None:
        self.drifts.append(drift)

    def passed(self, prompts: int) -> None:
        self.batches.append(prompts)
