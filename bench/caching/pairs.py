"""Pairs of texts as the cache sees them: embedded, profiled, vetoed and verified."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from farthing_cache.adapters.onnx_verifier import OnnxVerifier
from farthing_cache.domain import pair_features, profile
from farthing_cache.domain.profile import Profile
from farthing_cache.domain.veto import Veto, veto
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_models.pair_embeddings import Embeddings, embeddings

KEY = b"a key of the bench, nobody's own"
WINDOW_TOKENS = 128
BATCH = 4_096

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Texts:
    """Texts with their vectors and profiles."""

    place: dict[str, int]
    vectors: Embeddings
    profiles: list[Profile]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What is known of each pair."""

    cosine: Floats
    score: Floats  # of the verifier
    vetoes: list[Veto | None]

    @property
    def passed(self) -> npt.NDArray[np.bool_]:
        """Pairs that no rule forbids."""
        return np.asarray([veto is None for veto in self.vetoes])


def read(texts: Sequence[str], encoder: Path, cache: Path) -> Texts:
    """Every text once, through the shipped encoder."""
    unique = sorted(set(texts))
    loaded = OnnxEncoder.load(encoder, window_tokens=WINDOW_TOKENS, threads=1)
    vectors = embeddings(unique, loaded, cache)
    return Texts({text: at for at, text in enumerate(unique)}, vectors, [profile.of(text, KEY) for text in unique])


def score(texts: Texts, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64], verifier: OnnxVerifier) -> Scored:
    """Scores pairs, given as rows of `texts`."""
    cosines = np.einsum("ij,ij->i", texts.vectors[left], texts.vectors[right], dtype=np.float64)
    rows, vetoes = [], []
    for one, other, cosine in zip(left, right, cosines, strict=True):
        p, q = texts.profiles[one], texts.profiles[other]
        rows.append(pair_features.features(p, q, float(cosine)))
        vetoes.append(veto(p, q))
    return Scored(cosines, verifier.probabilities(np.asarray(rows, np.float32)), vetoes)
