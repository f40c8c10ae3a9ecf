"""All training texts as numbers: what the heads will read, with what is known about each."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain import lexical, ngrams
from farthing_classifier.domain.wording import core, rest
from farthing_classifier.ports import Encoded, EncoderInfo
from farthing_models import prefixes
from farthing_models.bags import Bags
from farthing_models.fitting import Matrix
from farthing_models.routing_data import SOURCES, Row
from farthing_models.task_seeds import ASSUMED_SUCCESS, Seed

NO_TASK: Final = -1
WRITTEN: Final = -1
PUSH_SEED: Final = 20261124
TASKS: Final = (
    "chat", "question_answering", "maths", "code", "extraction", "summary", "translation", "classification", "creative",
    "reasoning",
)  # fmt: skip

Mask = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.int64]


class Embedder(Protocol):
    """What training needs of an encoder."""

    @property
    def info(self) -> EncoderInfo:
        """Which encoder this is."""
        ...

    def encode(self, text: str) -> Encoded:
        """The unit vector of one text."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Texts as the first stage sees them: n-grams and surface, one row for each."""

    bags: Bags
    lexical: Matrix

    @classmethod
    def of(cls, texts: Sequence[str]) -> Seen:
        """Any texts."""
        return cls(Bags.of([ngrams.buckets(text) for text in texts]), surface(texts))

    def part(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Seen:
        """Some of them."""
        return Seen(self.bags.part(rows), self.lexical[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Views:
    """The whole of each text, and the rest without its beginning (domain.views)."""

    whole: Seen
    rest: Seen

    @classmethod
    def of(cls, texts: Sequence[str]) -> Views:
        """Any texts."""
        return cls(Seen.of(texts), Seen.of([rest(text) for text in texts]))

    def part(self, rows: npt.NDArray[np.bool_] | npt.NDArray[np.int64]) -> Views:
        """Some of them."""
        return Views(self.whole.part(rows), self.rest.part(rows))


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """The outcome rows first, then the written prompts; every array has one entry for each text.

    `source` numbers routing_data.SOURCES, and is WRITTEN for written prompts, which have no outcome: their `small` and
    `large` are NaN. `group` is the subject, benchmark or template; `kind` numbers `kinds`: the benchmark, or "written:"
    and the task. `rest` is what the first stage sees without the beginning; `pushed` the same where every other text
    had something put before it.
    """

    rows: tuple[Row, ...]
    embeddings: Matrix
    lexical: Matrix
    bags: Bags
    rest: Seen
    pushed: Seen
    task: Numbers
    kind: Numbers
    kinds: tuple[str, ...]
    source: Numbers
    group: tuple[str, ...]
    small: Matrix
    large: Matrix
    sha256: str

    @property
    def has_outcome(self) -> Mask:
        """Whether a text's outcome is known."""
        return np.asarray(self.source != WRITTEN)

    def views(self, rows: Mask | Numbers) -> Views:
        """What the first stage sees of some texts."""
        return Views(Seen(self.bags, self.lexical), self.rest).part(rows)

    def of(self, source: str) -> Numbers:
        """The numbers of a source's rows."""
        return np.flatnonzero(self.source == SOURCES.index(source))


def make(rows: Sequence[Row], seeds: Sequence[Seed], encoder: Embedder, cache: Path | None) -> Corpus:
    """Embeds every text, or takes the embeddings of the same texts from `cache`."""
    asked, written = [row.text for row in rows], [seed.text for seed in seeds]
    labels = [row.task for row in rows] + [seed.task for seed in seeds]
    kinds = [row.kind for row in rows] + [f"written:{seed.task}" for seed in seeds]
    names = tuple(sorted(set(kinds)))
    texts = asked + written
    seen = Seen.of(texts)
    unknown = [float("nan")] * len(seeds)
    return Corpus(
        rows=tuple(rows),
        embeddings=np.vstack([embed(asked, encoder, cache), embed(written, encoder, cache)]),
        lexical=seen.lexical,
        bags=seen.bags,
        rest=Seen.of([rest(text) for text in texts]),
        pushed=Seen.of([rest(text) for text in prefixes.put_before(texts, PUSH_SEED)]),
        task=np.asarray([NO_TASK if label is None else TASKS.index(label) for label in labels], dtype=np.int64),
        kind=np.asarray([names.index(kind) for kind in kinds], dtype=np.int64),
        kinds=names,
        source=np.asarray([SOURCES.index(row.source) for row in rows] + [WRITTEN] * len(seeds), dtype=np.int64),
        group=tuple([f"{row.source}:{row.group}" for row in rows] + [seed.template for seed in seeds]),
        small=np.asarray([row.small for row in rows] + unknown),
        large=np.asarray([row.large for row in rows] + unknown),
        sha256=digest(texts, encoder.info),
    )


def surface(texts: Sequence[str]) -> Matrix:
    """The lexical features, at the precision that the graphs read."""
    return np.asarray([lexical.features(text) for text in texts], dtype=np.float32).astype(np.float64)


def embed(texts: Sequence[str], encoder: Embedder, cache: Path | None) -> Matrix:
    """The embedding of each text without its courtesies, as the service embeds it; kept in `cache`."""
    read = [core(text) for text in texts]
    changed = [number for number, text in enumerate(texts) if read[number] != text]
    embeddings = _embed(texts, encoder, cache)
    embeddings[changed] = _embed([read[number] for number in changed], encoder, cache)
    return embeddings


def _embed(texts: Sequence[str], encoder: Embedder, cache: Path | None) -> Matrix:
    if not texts:
        return np.zeros((0, encoder.info.dimension))
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


def assumed(kind: str) -> tuple[float, float] | None:
    """The success of a small and a large model that is assumed for a kind of written prompts, if any is."""
    return ASSUMED_SUCCESS.get(kind.removeprefix("written:")) if kind.startswith("written:") else None
