"""A cascade on GSM8K: the small model answers every question, the judge reads the answer, and what it trusts least goes
to the large model."""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from bench.routing import bootstrap
from farthing_classifier.domain.judging.examination import Finding
from farthing_models import judge_data, judge_training, metrics
from farthing_models.judge_data import Problems

Matrix = npt.NDArray[np.float64]
Figure = float | tuple[float, float, float]

# What a small call costs of a large one: RouteLLM's list prices make it about 0.01; between models of one's own the
# gap is smaller.
PRICE_SHARES = (0.01, 0.05, 0.10, 0.20)

NOTES = """\
915 questions, answers of Mixtral-8x7B and GPT-4. Judges are fitted with the function that ships
(farthing_models.judge_training.fit), each on four of five folds, and score the fifth. Answers are read as they are
served: no expected answer, no finish reason, no log-probabilities; the prior is the training folds' share of right
answers. gsm8k_cascade_apgr: the recovered share of the gap between always-small and always-large, averaged over the
share s of questions that go to the large model, 0 to 1 at full resolution (RouteLLM's definition, as in the pilot).
The small call is made for every question, so at s the cascade costs small + s * large. gsm8k_cascade_apgr_paid_R
charges that call, R being its price as a share of a large call's: averaged over total cost, from 0 to one large
call a question; below R nothing is recovered, and one large call a question buys s = 1 - R. *_mended_labels:
"$57.00" where 57 was expected counts as right, as it does in training; the data count it as wrong. Features were
chosen while looking at cross-validated figures of the same questions: expect new ones to be a little worse.
Intervals: 95 %, questions drawn again, fits kept; gsm8k_cascade_folds_*: least and greatest of ten other splits
into folds. random: mean of 100 orders."""


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    """All figures; `arguments.data` names the folder, `arguments.seed` the folds."""
    if arguments.data is None:
        raise SystemExit("cascade: --data names the folder with the routing outcome sets")
    problems = judge_data.load(arguments.data)
    seed = int(arguments.seed)
    held_out = judge_training.cross_fitted(problems, seed)
    figures = _of_judge(problems, held_out, seed)
    for name, scores in _baselines(problems, seed).items():
        figures[f"gsm8k_cascade_apgr_{name}"] = _apgr(problems, scores, seed)
    figures["gsm8k_cascade_apgr_random"] = _random(problems, seed)
    others = [_plain_apgr(problems, judge_training.cross_fitted(problems, seed + more)) for more in range(1, 11)]
    figures |= {"gsm8k_cascade_folds_least": round(min(others), 4), "gsm8k_cascade_folds_most": round(max(others), 4)}
    return figures | _paid(problems, held_out, seed) | _agreement(problems)


def _of_judge(problems: Problems, held_out: Matrix, seed: int) -> dict[str, Figure]:
    weak, strong = problems.weak_right, problems.strong_right
    probabilities = judge_training.calibrated_across(held_out, weak, judge_data.folds(problems, seed))
    return {
        "gsm8k_cascade_apgr": _apgr(problems, -held_out, seed),
        "gsm8k_cascade_apgr_mended_labels": bootstrap.apgr(-held_out, weak, problems.strong_mended, seed),
        "gsm8k_cascade_cpt50": bootstrap.calls_for_gap(0.5, -held_out, weak, strong, seed),
        "gsm8k_cascade_cpt80": bootstrap.calls_for_gap(0.8, -held_out, weak, strong, seed),
        "gsm8k_cascade_strong_calls_at_95": bootstrap.calls_for_quality(0.95, -held_out, weak, strong, seed),
        "gsm8k_judge_auc": round(metrics.auc(held_out, weak), 4),
        "gsm8k_judge_ece": round(metrics.ece(probabilities, weak), 4),
        "gsm8k_judge_auc_other_model": round(
            metrics.auc(judge_training.cross_fitted_strong(problems, seed), problems.strong_mended), 4
        ),
        "gsm8k_always_small": round(float(weak.mean()), 4),
        "gsm8k_always_large": round(float(strong.mean()), 4),
    }


def _baselines(problems: Problems, seed: int) -> dict[str, Matrix]:
    """The higher the score, the sooner to the large model."""
    rng = np.random.default_rng(seed)
    wrong = [Finding.WRONG_ARITHMETIC in examined.findings for examined in problems.weak.examined]
    chance = rng.random(len(problems.prompts))
    return {
        "prompt_length": np.array([float(len(prompt)) for prompt in problems.prompts]),
        "answer_length": np.array([float(len(answer)) for answer in problems.weak_answers]),
        "arithmetic_rule": np.array(wrong, dtype=np.float64) + 1e-6 * chance,
    }


def _random(problems: Problems, seed: int) -> float:
    rng = np.random.default_rng(seed)
    drawn = [_plain_apgr(problems, rng.random(len(problems.prompts))) for _ in range(100)]
    return round(float(np.mean(drawn)), 4)


def _apgr(problems: Problems, scores: Matrix, seed: int) -> tuple[float, float, float]:
    return bootstrap.apgr(scores, problems.weak_right, problems.strong_right, seed)


def _plain_apgr(problems: Problems, held_out: Matrix) -> float:
    return metrics.apgr(-held_out, problems.weak_right, problems.strong_right)


def _paid(problems: Problems, held_out: Matrix, seed: int) -> dict[str, Figure]:
    """The same area over the total cost, the small call paid for."""
    return {
        f"gsm8k_cascade_apgr_paid_{price:.2f}": bootstrap.redrawn(
            _area_over_cost(problems, held_out, price)(np.ones(len(held_out))),
            _area_over_cost(problems, held_out, price),
            len(held_out),
            seed,
        )
        for price in PRICE_SHARES
    }


def _area_over_cost(problems: Problems, held_out: Matrix, price: float) -> Callable[[Matrix], float]:
    gains = (problems.strong_right - problems.weak_right)[np.argsort(held_out, kind="stable")]

    def figure(times: Matrix) -> float:
        recovered = np.concatenate([[0.0], np.cumsum(times * gains)])
        share = np.concatenate([[0.0], np.cumsum(times)]) / times.sum()
        cost = np.linspace(0.0, 1.0, 1001)
        reached = np.interp(cost - price, share, recovered / recovered[-1], left=0.0)
        return float(np.trapezoid(reached, cost))

    return figure


def _agreement(problems: Problems) -> dict[str, Figure]:
    found = judge_training.agreement_figures(problems)
    return {f"gsm8k_{name}": round(value, 4) for name, value in found.items()}
