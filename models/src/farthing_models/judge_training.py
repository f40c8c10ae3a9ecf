"""Trains the judge of answers: `python -m farthing_models.judge_training --data DIR` (models/cards/judge-v1.md)."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import numpy as np

from farthing_classifier.adapters.onnx_judge import MANIFEST_FILE, MODEL_FILE, SHIPPED
from farthing_classifier.domain.judging import agreement, word_problems
from farthing_classifier.domain.judging.asked import Asked
from farthing_classifier.domain.judging.examination import EVIDENCE
from farthing_models import judge_data, judge_fitting, judge_graph, metrics
from farthing_models.fitting import Matrix
from farthing_models.judge_data import FOLDS, Problems, Rows
from farthing_models.judge_fitting import STRONG_WEIGHT, Examples, FittedJudge, logit, sigmoid
from farthing_models.routing_data import DataError

VERSION: Final = "judge-v1"
SEED: Final = 20261101


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; writes judge.onnx and judge.json into --out, and prints the held-out figures."""
    options = _parser().parse_args(arguments)
    try:
        problems = judge_data.load(options.data)
    except DataError as error:
        print(f"judge_training: {error}", file=sys.stderr)
        return 1
    made = train(problems)
    graph = judge_graph.build(made.judge)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / MODEL_FILE).write_bytes(graph)
    manifest = json.dumps(_manifest(problems, made, graph), indent=2)
    (options.out / MANIFEST_FILE).write_text(manifest + "\n", "utf-8")
    print(json.dumps(made.figures, indent=2))
    return 0


@dataclass(frozen=True, slots=True)
class Trained:
    """The judge, the prior that it takes where none is given, and how good it is on rows that it was not fitted on."""

    judge: FittedJudge
    default_prior: float
    figures: dict[str, float]


def train(problems: Problems) -> Trained:
    """The judge on all rows, its calibration and figures from held-out folds."""
    rows = np.arange(len(problems.prompts))
    held_out = cross_fitted(problems, SEED)
    judge = fit(problems, rows).calibrated(*judge_fitting.platt(held_out, problems.weak_right))
    return Trained(judge, default_prior(problems, rows), _figures(problems, held_out))


def fit(problems: Problems, rows: Rows) -> FittedJudge:
    """The judge on some problems: both models' answers, each with its model's share of right answers as the prior."""
    weak, strong = problems.weak.part(rows), problems.strong.part(rows)
    weak_right, strong_right = problems.weak_right[rows], problems.strong_mended[rows]
    count = len(rows)
    return judge_fitting.fit(
        Examples(
            judge_data.joined(weak, strong),
            np.concatenate([weak_right, strong_right]),
            np.repeat([logit(float(weak_right.mean())), logit(float(strong_right.mean()))], count),
            np.repeat([1.0, STRONG_WEIGHT], count),
        )
    )


def default_prior(problems: Problems, rows: Rows) -> float:
    """The weak model's share of right answers: the prior where none is given."""
    return float(problems.weak_right[rows].mean())


def cross_fitted(problems: Problems, seed: int) -> Matrix:
    """The log-odds of each weak answer, from judges that were fitted on the other folds."""
    scores = np.zeros(len(problems.prompts))
    for held_out in judge_data.folds(problems, seed):
        rows = np.setdiff1d(np.arange(len(scores)), held_out)
        prior = np.full(len(held_out), logit(default_prior(problems, rows)))
        scores[held_out] = fit(problems, rows).log_odds(problems.weak.part(held_out), prior)
    return scores


def cross_fitted_strong(problems: Problems, seed: int) -> Matrix:
    """The same for the strong model's answers, with its own share of right answers as the prior."""
    scores = np.zeros(len(problems.prompts))
    for held_out in judge_data.folds(problems, seed):
        rows = np.setdiff1d(np.arange(len(scores)), held_out)
        prior = np.full(len(held_out), logit(float(problems.strong_mended[rows].mean())))
        scores[held_out] = fit(problems, rows).log_odds(problems.strong.part(held_out), prior)
    return scores


def calibrated_across(scores: Matrix, right: Matrix, folds: Sequence[Rows]) -> Matrix:
    """Probabilities of each fold, calibrated on the scores of the others."""
    probabilities = np.zeros(len(scores))
    for held_out in folds:
        rest = np.setdiff1d(np.arange(len(scores)), held_out)
        slope, shift = judge_fitting.platt(scores[rest], right[rest])
        probabilities[held_out] = sigmoid(slope * scores[held_out] + shift)
    return probabilities


def agreement_figures(problems: Problems) -> dict[str, float]:
    """How often the rule for references is right: where one answer is right, both agree exactly if the other is too."""
    asked = Asked(json=False, json_alone=False, options=frozenset(), number=True, least_words=0.0, repetition=False)
    agrees = np.array(
        [
            agreement.compare(mine, theirs, asked).agrees
            for mine, theirs in zip(problems.weak_answers, problems.strong_answers, strict=True)
        ]
    )
    known = (problems.weak_right + problems.strong_right) > 0.0
    both = (problems.weak_right * problems.strong_right) > 0.0
    accepted = agrees
    return {
        "agreement_accuracy": float((agrees == both)[known].mean()),
        "agreement_means_right": float(np.maximum(problems.weak_right, problems.strong_right)[accepted].mean()),
        "agreement_rows": float(known.sum()),
    }


def _figures(problems: Problems, held_out: Matrix) -> dict[str, float]:
    weak, strong = problems.weak_right, problems.strong_right
    probabilities = calibrated_across(held_out, weak, judge_data.folds(problems, SEED))
    others = cross_fitted_strong(problems, SEED)
    figures = {
        "auc": metrics.auc(held_out, weak),
        "auc_other_model": metrics.auc(others, problems.strong_mended),
        "apgr": metrics.apgr(-held_out, weak, strong),
        "ece": metrics.ece(probabilities, weak),
        "brier": float(((probabilities - weak) ** 2).mean()),
        **agreement_figures(problems),
    }
    return {name: round(value, 4) for name, value in figures.items()}


def _manifest(problems: Problems, made: Trained, graph: bytes) -> dict[str, Any]:
    return {
        "version": VERSION,
        "sha256": hashlib.sha256(graph).hexdigest(),
        "numbers": list(word_problems.NAMES),
        "evidence": list(EVIDENCE),
        "default_prior": round(made.default_prior, 4),
        "prior_weight": round(made.judge.prior_weight, 4),
        "training": {
            "seed": SEED,
            "folds": FOLDS,
            "problems": len(problems.prompts),
            "with_numbers": int(problems.weak.with_numbers.sum()),
            "mended_labels": int((problems.strong_mended - problems.strong_right).sum()),
            "texts_sha256": judge_data.sha256(problems),
            "numpy": version("numpy"),
        },
        "held_out": made.figures,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farthing_models.judge_training", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the routing outcome sets (JSON lines)")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="folder to write; by default where the service looks")
    return parser


if __name__ == "__main__":
    sys.exit(main())
