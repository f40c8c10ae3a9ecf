"""Trains the classifier's heads and their calibration (models/cards/heads-v3.md)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_encoder import TOKENIZER_FILE, OnnxEncoder
from farthing_classifier.adapters.onnx_heads import FIRST_FILE, MANIFEST_FILE, SECOND_FILE, SHIPPED
from farthing_classifier.domain import calibration, lexical, ngrams
from farthing_models import corpus, evaluation, heads, heads_graph, lengths, routing_data, task_seeds
from farthing_models.corpus import TASKS, Corpus
from farthing_models.evaluation import Evaluation
from farthing_models.fitting import Matrix

VERSION: Final = "heads-v3"
CALIBRATION_VERSION: Final = "heads-v3.1"
CALIBRATION_FILE: Final = "calibration.json"
SEED: Final = 20261101
WINDOW_TOKENS: Final = 128
DRIFT_BINS: Final = 10


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; writes both graphs, heads.json and calibration.json into --out, and prints the held-out figures."""
    options = _parser().parse_args(arguments)
    try:
        encoder = OnnxEncoder.load(options.encoder, window_tokens=WINDOW_TOKENS, threads=options.threads)
        rows = routing_data.load(options.data)
    except (ModelFilesError, routing_data.DataError) as error:
        print(f"train_classifier: {error}", file=sys.stderr)
        return 1
    made = corpus.make(rows, task_seeds.seeds(SEED), encoder, options.cache)
    tokenizer = load_tokenizer(options.encoder)
    found = evaluation.evaluate(made, SEED, tokenizer, options.cache)
    fitted = heads.fit(made, np.ones(len(made.task), dtype=bool), SEED, tokenizer)
    graphs = {FIRST_FILE: heads_graph.build_stage0(fitted.stage0), SECOND_FILE: heads_graph.build_stage1(fitted.stage1)}
    options.out.mkdir(parents=True, exist_ok=True)
    for name, graph in graphs.items():
        (options.out / name).write_bytes(graph)
    _write(options.out / MANIFEST_FILE, _manifest(made, encoder.info.sha256, graphs, found))
    _write(options.out / CALIBRATION_FILE, calibration.content(found.curves.calibration(CALIBRATION_VERSION, VERSION)))
    print(json.dumps(found.figures, indent=2))
    return 0


def load_tokenizer(folder: Path) -> Tokenizer:
    """The encoder's tokenizer, counting every token of a text."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _manifest(made: Corpus, encoder_sha256: str, graphs: dict[str, bytes], found: Evaluation) -> dict[str, Any]:
    return {
        "version": VERSION,
        "files": {name: {"sha256": hashlib.sha256(graph).hexdigest()} for name, graph in graphs.items()},
        "encoder_sha256": encoder_sha256,
        "window_tokens": WINDOW_TOKENS,
        "tasks": list(TASKS),
        "lexical_features": list(lexical.NAMES),
        "ngrams": {"buckets": ngrams.BUCKETS, "hash": ngrams.DESCRIPTION},
        "doubt_limit": round(found.doubt_limit, 6),
        "limits": {"out_of_domain": round(found.out_of_domain, 6), "no_signal": round(found.no_signal, 6)},
        "drift": _drift(made, found),
        "length_basis": lengths.bases(),
        "assumed_success": {task: list(pair) for task, pair in task_seeds.ASSUMED_SUCCESS.items()},
        "training": {
            "seed": SEED,
            "outcome_rows": len(made.rows),
            "written_prompts": len(made.task) - len(made.rows),
            "texts_sha256": made.sha256,
            "numpy": version("numpy"),
            "scipy": version("scipy"),
            "lightgbm": version("lightgbm"),
        },
        "held_out": found.figures,
    }


def _drift(made: Corpus, found: Evaluation) -> dict[str, Any]:
    tasks = np.bincount(made.task[made.task >= 0], minlength=len(TASKS)) / (made.task >= 0).sum()
    return {
        "complexity": _histogram(found.complexity),
        "familiarity": _histogram(found.familiarity),
        "tasks": {task: round(float(share), 6) for task, share in zip(TASKS, tasks, strict=True)},
    }


def _histogram(values: Matrix) -> dict[str, list[float]]:
    """Bins of about as many values each: `edges` are the inner ones."""
    edges = np.unique(np.round(np.quantile(values, np.arange(1, DRIFT_BINS) / DRIFT_BINS), 6))
    counts = np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1)
    return {"edges": edges.tolist(), "shares": [round(float(share), 6) for share in counts / counts.sum()]}


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", "utf-8")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farthing_models.train_classifier", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the routing outcome sets (JSON lines)")
    parser.add_argument("--encoder", type=Path, default=Path("build/models/encoder"), help="what export_encoder wrote")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write; by default where the service looks")
    parser.add_argument("--cache", type=Path, default=Path("build/models/embeddings"), help="folder for embeddings")
    parser.add_argument("--threads", type=int, default=1, help="threads of the encoder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
