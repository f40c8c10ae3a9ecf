"""Trains the classifier's heads: `python -m farthing_models.train_heads --data DIR` (models/cards/heads-v1.md)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_encoder import TOKENIZER_FILE, OnnxEncoder
from farthing_classifier.adapters.onnx_heads import MANIFEST_FILE, MODEL_FILE, SHIPPED
from farthing_classifier.domain import lexical
from farthing_models import corpus, evaluation, heads, heads_graph, lengths, routing_data, task_seeds
from farthing_models.corpus import TASKS, Corpus

VERSION: Final = "heads-v1"
SEED: Final = 20261101
WINDOW_TOKENS: Final = 128


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; writes heads.onnx and heads.json into --out, and prints the held-out figures."""
    options = _parser().parse_args(arguments)
    try:
        encoder = OnnxEncoder.load(options.encoder, window_tokens=WINDOW_TOKENS, threads=options.threads)
        rows = routing_data.load(options.data)
    except (ModelFilesError, routing_data.DataError) as error:
        print(f"train_heads: {error}", file=sys.stderr)
        return 1
    made = corpus.make(rows, task_seeds.seeds(SEED), encoder, options.cache)
    tokenizer = _tokenizer(options.encoder)
    found = evaluation.evaluate(made, SEED, tokenizer)
    graph = heads_graph.build(heads.fit(made, found.calibration, SEED, tokenizer))
    manifest = _manifest(made, encoder.info.sha256, graph, found.figures)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / MODEL_FILE).write_bytes(graph)
    (options.out / MANIFEST_FILE).write_text(json.dumps(manifest, indent=2) + "\n", "utf-8")
    print(json.dumps(found.figures, indent=2))
    return 0


def _manifest(made: Corpus, encoder_sha256: str, graph: bytes, figures: dict[str, float]) -> dict[str, Any]:
    return {
        "version": VERSION,
        "sha256": hashlib.sha256(graph).hexdigest(),
        "encoder_sha256": encoder_sha256,
        "window_tokens": WINDOW_TOKENS,
        "tasks": list(TASKS),
        "lexical_features": list(lexical.NAMES),
        "small_models": list(routing_data.SMALL_MODELS),
        "length_basis": lengths.bases(),
        "training": {
            "seed": SEED,
            "outcome_rows": len(made.rows),
            "written_prompts": len(made.task) - len(made.rows),
            "texts_sha256": made.sha256,
            "numpy": version("numpy"),
        },
        "held_out": figures,
    }


def _tokenizer(folder: Path) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_FILE))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farthing_models.train_heads", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the routing outcome sets (JSON lines)")
    parser.add_argument("--encoder", type=Path, default=Path("build/models/encoder"), help="what export_encoder wrote")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write; by default where the service looks")
    parser.add_argument("--cache", type=Path, default=Path("build/models/embeddings"), help="folder for embeddings")
    parser.add_argument("--threads", type=int, default=1, help="threads of the encoder")
    return parser


if __name__ == "__main__":
    sys.exit(main())
