"""All training texts as numbers: what the heads will read, with the labels that go with it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain import lexical
from farthing_classifier.ports import Encoder, EncoderInfo
from farthing_models.fitting import Matrix
from farthing_models.routing_data import SOURCES, Row
from farthing_models.task_seeds import Seed

NO_TASK: Final = -1
TASKS: Final = (
    "chat", "question_answering", "maths", "code", "extraction", "summary", "translation", "classification", "creative",
    "reasoning",
)  # fmt: skip

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The outcome rows first, then the written prompts; every array has one entry for each text.

    `source` numbers routing_data.SOURCES, and is -1 for written prompts, which have no outcome. `group` is the subject,
    benchmark or template.
    """

    rows: tuple[Row, ...]
    embeddings: Matrix
    lexical: Matrix
    task: Numbers
    source: Numbers
    group: tuple[str, ...]
    sha256: str

    @property
    def has_outcome(self) -> Mask:
        """Whether a text's outcome is known."""
        return self.source >= 0


def make(rows: Sequence[Row], seeds: Sequence[Seed], encoder: Encoder, cache: Path | None) -> Corpus:
    """Embeds every text, or takes the embeddings of the same texts from `cache`."""
    asked, written = [row.text for row in rows], [seed.text for seed in seeds]
    labels = [row.task for row in rows] + [seed.task for seed in seeds]
    return Corpus(
        rows=tuple(rows),
        embeddings=np.vstack([_embeddings(asked, encoder, cache), _embeddings(written, encoder, cache)]),
        lexical=np.asarray([lexical.features(text) for text in asked + written]),
        task=np.asarray([NO_TASK if label is None else TASKS.index(label) for label in labels], dtype=np.int64),
        source=np.asarray([SOURCES.index(row.source) for row in rows] + [-1] * len(seeds), dtype=np.int64),
        group=tuple([f"{row.source}:{row.group}" for row in rows] + [seed.template for seed in seeds]),
        sha256=digest(asked + written, encoder.info),
    )


def _embeddings(texts: Sequence[str], encoder: Encoder, cache: Path | None) -> Matrix:
    stored = cache / f"{digest(texts, encoder.info)[:32]}.npy" if cache is not None else None
    if stored is not None and stored.is_file():
        return np.asarray(np.load(stored), dtype=np.float64)
    embeddings = np.asarray([encoder.encode(text).embedding for text in texts], dtype=np.float32)
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.save(stored, embeddings)
    return np.asarray(embeddings, dtype=np.float64)


def digest(texts: Sequence[str], encoder: EncoderInfo) -> str:
    """Names texts as one encoder reads them."""
    parts = [encoder.sha256, str(encoder.window_tokens), *texts]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
