"""Trains the cache's verifier: `python -m farthing_models.pair_training --data DIR` (models/cards/verifier-v2.md)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from farthing_cache.domain import pair_features, profile
from farthing_cache.domain.veto import veto
from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.ports import Encoder
from farthing_models import pair_data, pair_fitting, pair_graph
from farthing_models.pair_data import Pair
from farthing_models.pair_embeddings import Embeddings, embeddings
from farthing_models.pair_fitting import Matrix, Nets

VERSION: Final = "verifier-v2"
MODEL_FILE: Final = "verifier.onnx"
MANIFEST_FILE: Final = "verifier.json"
SEED: Final = 20261123
WINDOW_TOKENS: Final = 128
FOLDS: Final = 5
TRAPS_WRONG: Final = 0.02  # share of held-out traps that the threshold without online evidence lets through
_KEY: Final = b"training pairs: nobody's secret."
_SAME_TEXT: Final = 0.97  # cosine above which two real questions may well be one

# How much each kind of pair weighs; within a kind all pairs weigh the same.
SHARES: Final = {
    "paraphrase": 0.26, "near": 0.16, "reordered": 0.08, "entity": 0.12, "intent": 0.08, "neighbour": 0.06,
    "scope": 0.05, "negation": 0.04, "antonym": 0.04, "order": 0.04, "number": 0.03, "question": 0.03,
    "quantifier": 0.03,
}  # fmt: skip

_SAME: Final = ("paraphrase", "near", "reordered")

Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Corpus:
    """All pairs as numbers, one row each."""

    pairs: tuple[Pair, ...]
    features: Matrix
    same: Matrix
    weight: Matrix
    vetoed: Mask
    fold: npt.NDArray[np.int64]

    def is_kind(self, kind: str) -> Mask:
        """Rows of one kind."""
        return np.asarray([pair.kind == kind for pair in self.pairs])


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; writes verifier.onnx and verifier.json into --out, and prints the held-out figures."""
    options = _parser().parse_args(arguments)
    try:
        encoder = OnnxEncoder.load(options.encoder, window_tokens=WINDOW_TOKENS, threads=options.threads)
    except ModelFilesError as error:
        print(f"pair_training: {error}", file=sys.stderr)
        return 1
    corpus = make(pair_data.pairs(options.data, SEED), encoder, options.cache)
    held_out, calibration = cross_fitted(corpus)
    nets = pair_fitting.fit(corpus.features, corpus.same, corpus.weight, SEED).calibrated(*calibration)
    threshold = _threshold(corpus, held_out)
    graph = pair_graph.build(nets)
    manifest = _manifest(corpus, graph, encoder.info.sha256, threshold, figures(corpus, held_out, threshold))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / MODEL_FILE).write_bytes(graph)
    (options.out / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    print(json.dumps(manifest["held_out"], indent=2))
    return 0


def make(pairs: list[Pair], encoder: Encoder, cache: Path) -> Corpus:
    """Embeds and profiles every text once; adds the nearest other question of each real question as a trap."""
    texts = sorted({text for pair in pairs for text in (pair.a, pair.b)})
    place = {text: at for at, text in enumerate(texts)}
    vectors = embeddings(texts, encoder, cache)
    pairs = [*pairs, *_neighbours(pairs, vectors, place)]
    profiles = [profile.of(text, _KEY) for text in texts]
    rows, vetoed = [], []
    for pair in pairs:
        a, b = place[pair.a], place[pair.b]
        rows.append(pair_features.features(profiles[a], profiles[b], float(vectors[a] @ vectors[b])))
        vetoed.append(veto(profiles[a], profiles[b]) is not None)
    return Corpus(
        tuple(pairs),
        np.asarray(rows),
        np.asarray([pair.same for pair in pairs], np.float64),
        np.asarray(_weights([pair.kind for pair in pairs])),
        np.asarray(vetoed),
        np.asarray([int(hashlib.sha256(pair.group.encode()).hexdigest(), 16) % FOLDS for pair in pairs]),
    )


def _weights(kinds: Sequence[str]) -> list[float]:
    counts = {kind: kinds.count(kind) for kind in SHARES}
    return [SHARES[kind] / counts[kind] for kind in kinds]


def _neighbours(pairs: Sequence[Pair], vectors: Embeddings, place: dict[str, int]) -> list[Pair]:
    asked = sorted(
        {(pair.a, pair.group) for pair in pairs if pair.kind == "near" and pair.group.startswith("question")}
    )
    rows = vectors[[place[text] for text, _ in asked]]
    cosines = rows @ rows.T
    groups = np.asarray([group for _, group in asked])
    cosines[(groups[:, None] == groups[None, :]) | (cosines > _SAME_TEXT)] = -1.0
    nearest = cosines.argmax(axis=1)
    chosen = sorted({(min(at, int(other)), max(at, int(other))) for at, other in enumerate(nearest)})
    return [Pair(asked[one][0], asked[other][0], False, "neighbour", asked[one][1]) for one, other in chosen]


def cross_fitted(corpus: Corpus) -> tuple[Matrix, tuple[float, float]]:
    """Probabilities from nets that saw neither the pair nor its family, and the calibration found on them."""
    logits = np.zeros(len(corpus.same))
    for fold in range(FOLDS):
        train, test = corpus.fold != fold, corpus.fold == fold
        logits[test] = _fit(corpus, train).logits(corpus.features[test])
    slope, shift = pair_fitting.platt(logits, corpus.same, corpus.weight / corpus.weight.mean())
    return pair_fitting.sigmoid(slope * logits + shift), (slope, shift)


def _fit(corpus: Corpus, rows: Mask) -> Nets:
    return pair_fitting.fit(corpus.features[rows], corpus.same[rows], corpus.weight[rows], SEED)


def _threshold(corpus: Corpus, held_out: Matrix) -> float:
    """The lowest of some thresholds at which no more than TRAPS_WRONG of the held-out traps pass veto and verifier."""
    for threshold in np.arange(0.5, 1.0, 0.005):
        if _passed(corpus, held_out, corpus.same == 0, float(threshold)) <= TRAPS_WRONG:
            return round(float(threshold), 3)
    return 0.995


def _passed(corpus: Corpus, scores: Matrix, rows: Mask, threshold: float) -> float:
    through = (scores >= threshold) & ~corpus.vetoed
    return float((corpus.weight * through)[rows].sum() / corpus.weight[rows].sum())


def figures(corpus: Corpus, held_out: Matrix, threshold: float) -> dict[str, float]:
    """What veto and verifier together let through on families that were not trained on, by kind of pair."""
    found = {f"served_{kind}": _passed(corpus, held_out, corpus.is_kind(kind), threshold) for kind in _SAME}
    traps = [kind for kind in SHARES if kind not in _SAME]
    found |= {f"wrong_{kind}": _passed(corpus, held_out, corpus.is_kind(kind), threshold) for kind in traps}
    found["wrong"] = _passed(corpus, held_out, corpus.same == 0, threshold)
    found["calibration_error"] = calibration_error(held_out, corpus.same, corpus.weight)
    for name, vetoes in (("veto_alone_wrong", corpus.same == 0), ("veto_alone_served", corpus.same == 1)):
        found[name] = float((corpus.weight * ~corpus.vetoed)[vetoes].sum() / corpus.weight[vetoes].sum())
    return {name: round(value, 4) for name, value in found.items()}


def calibration_error(scores: Matrix, same: Matrix, weight: Matrix, bins: int = 15) -> float:
    """Expected calibration error over equal steps of probability."""
    at = np.minimum((scores * bins).astype(int), bins - 1)
    gaps = [abs(((scores - same) * weight)[at == one].sum()) for one in range(bins)]
    return float(np.sum(gaps) / weight.sum())


def _manifest(
    corpus: Corpus, graph: bytes, encoder_sha256: str, threshold: float, held_out: dict[str, float]
) -> dict[str, Any]:
    kinds = [pair.kind for pair in corpus.pairs]
    return {
        "version": VERSION,
        "sha256": hashlib.sha256(graph).hexdigest(),
        "encoder_sha256": encoder_sha256,
        "profile_version": pair_features.VERSION,
        "features": list(pair_features.NAMES),
        "threshold": threshold,
        "training": {"seed": SEED, "pairs": len(kinds), "kinds": {kind: kinds.count(kind) for kind in SHARES}},
        "held_out": held_out,
    }


def _parser() -> argparse.ArgumentParser:
    shipped = Path(str(resources.files("farthing_cache"))) / "verifier"
    parser = argparse.ArgumentParser(prog="python -m farthing_models.pair_training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the routing outcome sets (JSON lines)")
    parser.add_argument("--encoder", type=Path, default=Path("build/models/encoder"), help="what export_encoder wrote")
    parser.add_argument("--out", type=Path, default=shipped, help="folder to write; by default where the service looks")
    parser.add_argument("--cache", type=Path, default=Path("build/pairs"), help="folder for embeddings")
    parser.add_argument("--threads", type=int, default=1, help="threads of the encoder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
