"""What INT8 costs in routing: heads trained on INT8 embeddings judge held-out questions by INT8 and by FP32 ones.

python -m farthing_models.int8_loss --data DIR
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from farthing_classifier.adapters.model_files import ModelFilesError
from farthing_classifier.adapters.onnx_encoder import MANIFEST_FILE, MODEL_FILE, TOKENIZER_FILE, OnnxEncoder
from farthing_models import corpus, evaluation, fitting, heads, metrics, routing_data, task_seeds, train_classifier
from farthing_models.corpus import Corpus, Numbers
from farthing_models.fitting import Matrix
from farthing_models.routing_data import SOURCES

MAX_LOSS: Final = 0.005
QUESTIONS: Final = 500
HELD_OUT: Final = 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; 1 when the loss is above MAX_LOSS."""
    options = _parser().parse_args(arguments)
    try:
        encoder = OnnxEncoder.load(options.encoder, window_tokens=train_classifier.WINDOW_TOKENS, threads=1)
        rows = routing_data.load(options.data)
    except (ModelFilesError, routing_data.DataError) as error:
        print(f"int8_loss: {error}", file=sys.stderr)
        return 1
    made = corpus.make(rows, task_seeds.seeds(train_classifier.SEED), encoder, options.cache)
    figures = measure(made, options.encoder, options.weights, options.cache)
    print(json.dumps(figures, indent=2))
    return 0 if figures["int8_apgr_loss"] <= MAX_LOSS else 1


def measure(made: Corpus, encoder: Path, weights: Path, cache: Path | None) -> dict[str, float]:
    """The mean APGR over the sets with both encoders, on questions of one fold that the heads have not seen."""
    folds = evaluation.at_random(made, train_classifier.SEED)
    tokenizer = train_classifier.load_tokenizer(encoder)
    fitted = heads.fit(made, folds != HELD_OUT, train_classifier.SEED, tokenizer)
    rows = np.concatenate([each[folds[each] == HELD_OUT][:QUESTIONS] for each in map(made.of, SOURCES)])
    with tempfile.TemporaryDirectory() as folder:
        original = corpus.embed([made.rows[row].text for row in rows], _original(encoder, weights, Path(folder)), cache)
    int8, fp32 = (_apgr(made, rows, fitted, each) for each in (made.embeddings[rows], original))
    return {"int8_apgr": round(int8, 4), "fp32_apgr": round(fp32, 4), "int8_apgr_loss": round(fp32 - int8, 4)}


def _original(encoder: Path, weights: Path, folder: Path) -> OnnxEncoder:
    """The encoder before quantization, from the pinned weights."""
    from farthing_models import encoder_graph, encoder_weights

    graph = encoder_graph.build(encoder_weights.load(weights)).SerializeToString(deterministic=True)
    manifest = json.loads((encoder / MANIFEST_FILE).read_text("utf-8"))
    manifest["files"][MODEL_FILE] = {"sha256": hashlib.sha256(graph).hexdigest(), "bytes": len(graph)}
    (folder / MODEL_FILE).write_bytes(graph)
    (folder / TOKENIZER_FILE).write_bytes((encoder / TOKENIZER_FILE).read_bytes())
    (folder / MANIFEST_FILE).write_text(json.dumps(manifest), "utf-8")
    return OnnxEncoder.load(folder, window_tokens=train_classifier.WINDOW_TOKENS, threads=1)


def _apgr(made: Corpus, rows: Numbers, fitted: heads.FittedHeads, embeddings: Matrix) -> float:
    first = fitted.stage0.scores(made.views(rows))
    odds = fitting.sigmoid(fitted.stage1.scores(embeddings, made.lexical[rows], first))
    gain = odds[:, 2] - odds[:, 0]
    parts = [made.source[rows] == number for number in range(len(SOURCES))]
    return float(np.mean([metrics.apgr(gain[part], made.small[rows][part], made.large[rows][part]) for part in parts]))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farthing_models.int8_loss", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the routing outcome sets (JSON lines)")
    parser.add_argument("--encoder", type=Path, default=Path("build/models/encoder"), help="what export_encoder wrote")
    parser.add_argument("--weights", type=Path, default=Path("build/encoder-weights"), help="the pinned weights")
    parser.add_argument("--cache", type=Path, default=Path("build/models/embeddings"), help="folder for embeddings")
    return parser


if __name__ == "__main__":
    sys.exit(main())
