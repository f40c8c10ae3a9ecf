"""How well the shipped pipeline ranks questions by what a larger model adds, on questions that it has not seen.

    python -m bench.routing offline --data DIR

Every figure comes from heads fitted by the function that makes the shipped ones, on four folds, and measured on the
fifth: folds at random ("in domain"), and folds that leave whole subjects, benchmarks and sets out. Calibration, floors
and prices' weights are chosen on the other folds. Beside each: chance, the length of the prompt, 80 nearest neighbours,
and rules over keywords (a re-implementation of LiteLLM's complexity router from its documentation). Always-small has an
APGR of 0 and always-large of 1 by definition, at a share of large calls of 0 and 1; their quality and cost are given.
"""

import argparse
from pathlib import Path

import numpy as np

from bench.results import Figure
from bench.routing import baselines, bootstrap, offline_prices, offline_robustness, offline_transfer
from bench.routing.offline_study import Study, load
from farthing_models import calibrating, evaluation
from farthing_models.corpus import Numbers
from farthing_models.fitting import Matrix
from farthing_models.routing_data import GSM8K, MMLU, NINE

NOTES = (
    "Heads fitted by farthing_models.heads.fit on four of five folds and measured on the fifth; leave-out figures "
    "leave whole subjects, benchmarks or sets out. Gains are differences of calibrated probabilities; calibration is "
    "fitted on the other folds. Intervals: questions drawn again 500 times, the fitted router kept. rules: a "
    "re-implementation of LiteLLM's complexity router from its documentation. strong_calls_at_95 and cpt80 read the "
    "whole curve; the figures named by_threshold use one that was chosen on the other folds."
)
NAMES = {MMLU: "mmlu", GSM8K: "gsm8k", NINE: "three_tier"}
LEFT_OUT = {MMLU: "leave_subjects_out", GSM8K: "leave_set_out", NINE: "leave_task_out"}


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    """All offline figures; several minutes on one core."""
    if arguments.data is None:
        raise SystemExit("bench.routing offline: --data names the folder with the routing outcome sets")
    study = load(Path(arguments.data), arguments.seed)
    figures: dict[str, Figure] = {}
    figures |= ranking(study)
    figures |= calibration(study)
    figures |= offline_prices.figures(study)
    figures |= offline_transfer.figures(study)
    return figures | offline_robustness.figures(study)


def ranking(study: Study) -> dict[str, Figure]:
    """APGR and shares of large calls, with the baselines beside."""
    figures: dict[str, Figure] = {}
    for source, name in NAMES.items():
        rows = study.corpus.of(source)
        routers = {"": (study.random_gain, study.strange_gain)} | _baselines(study)
        for router, (known, strange) in routers.items():
            label = f"{router}_" if router else ""
            apgr_name = f"{name}_apgr" if source != MMLU else "mmlu_apgr_in_domain"
            figures[f"{label}{apgr_name}"] = study.apgr(known, rows)
            figures[f"{label}{name}_apgr_{LEFT_OUT[source]}"] = study.apgr(strange, rows)
        figures |= _calls(study, source, name)
    return figures


def _baselines(study: Study) -> dict[str, tuple[Matrix, Matrix]]:
    texts, padding = [row.text for row in study.corpus.rows], len(study.corpus.task) - len(study.corpus.rows)
    chance = np.random.default_rng(study.seed).random(len(texts))
    alone = {"random": chance, "length": baselines.lengths(texts), "rules": baselines.rules(texts)}
    made = {name: (score, score) for name, score in alone.items()}
    known = study.corpus.has_outcome
    near = [
        baselines.neighbours(study.corpus.embeddings[known], study.gain[known], folds[known])
        for folds in (study.random.folds, study.strange.folds)
    ]
    made["knn"] = (near[0], near[1])
    return {name: (np.pad(a, (0, padding)), np.pad(b, (0, padding))) for name, (a, b) in made.items()}


def _calls(study: Study, source: str, name: str) -> dict[str, Figure]:
    rows = study.corpus.of(source)
    weak, strong = study.corpus.small[rows], study.corpus.large[rows]
    figures: dict[str, Figure] = {
        f"{name}_always_small_quality": round(float(weak.mean()), 4),
        f"{name}_always_large_quality": round(float(strong.mean()), 4),
    }
    for label, gain, held in (("", study.strange_gain, study.strange), ("_in_domain", study.random_gain, study.random)):
        suffix = label if source == MMLU else f"_{LEFT_OUT[source]}" if not label else ""
        figures[f"{name}_strong_calls_at_95{suffix}"] = bootstrap.calls_for_quality(
            0.95, gain[rows], weak, strong, study.seed
        )
        figures[f"{name}_cpt80{suffix}"] = bootstrap.calls_for_gap(0.80, gain[rows], weak, strong, study.seed)
        large = _by_threshold(gain[rows], weak, strong, held.folds[rows])
        figures[f"{name}_calls_by_threshold_95{suffix}"] = bootstrap.mean(large, study.seed)
        kept = np.where(large > 0, strong, weak).mean() / strong.mean()
        figures[f"{name}_quality_by_threshold_95{suffix}"] = round(float(kept), 4)
    return figures


def _by_threshold(gain: Matrix, weak: Matrix, strong: Matrix, folds: Numbers) -> Matrix:
    """1 where the large model is called, by the highest threshold that keeps 95 % of its quality on the other folds."""
    called = np.zeros(len(gain))
    for fold in np.unique(folds):
        rest = folds != fold
        order = np.argsort(-gain[rest], kind="stable")
        quality = weak[rest].sum() + np.concatenate([[0.0], np.cumsum((strong - weak)[rest][order])])
        first = int(np.flatnonzero(quality >= 0.95 * strong[rest].sum())[0])
        limit = np.inf if first == 0 else gain[rest][order][first - 1]
        called[~rest] = gain[~rest] >= limit
    return called


def calibration(study: Study) -> dict[str, Figure]:
    """Expected calibration error over ten bins, all sets together, the worst tier; each tier beside."""
    outcomes, known = calibrating.outcomes(study.corpus), study.corpus.has_outcome
    figures: dict[str, Figure] = {}
    for name, calibrated in (("in_domain", study.random_success), ("leave_out", study.strange_success)):
        tiers = {
            tier: study.ece(calibrated[known, column], outcomes[known, column])
            for column, tier in enumerate(calibrating.TIERS)
        }
        figures |= {f"ece_{tier}_{name}": error for tier, error in tiers.items()}
        figures[f"ece_{name}"] = max(tiers.values())
    share = (study.random.doubt > study.doubt_limit)[known].astype(np.float64)
    first = evaluation.routing_figures(study.corpus, study.first_gain, "x")
    figures["encoder_share_at_doubt_limit"] = bootstrap.mean(share, study.seed)
    for source, name in NAMES.items():
        figures[f"first_stage_{name}_apgr"] = round(first[f"apgr_{evaluation.SHORT[source]}_x"], 4)
    return figures
