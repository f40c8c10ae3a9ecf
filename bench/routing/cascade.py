"""A cascade on GSM8K: the small model answers every question, the judge reads the answer, and what it trusts least goes
to the large model."""

import argparse
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from farthing_classifier.domain.judging.examination import Examination, Finding
from farthing_models import judge_data, judge_training, metrics
from farthing_models.judge_data import Problems

Matrix = npt.NDArray[np.float64]
Figure = float | tuple[float, float, float]

# What a small call costs of a large one: RouteLLM's list prices make it about 0.01; between models of one's own the
# gap is smaller.
PRICE_SHARES = (0.01, 0.05, 0.10, 0.20)

DRAWS = 1_000

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
    figures = _of_judge(problems, judge_training.cross_fitted(problems, seed), seed)
    figures |= {f"gsm8k_cascade_apgr_{name}": figure for name, figure in _baselines(problems, seed).items()}
    others = [_plain_apgr(problems, judge_training.cross_fitted(problems, seed + more)) for more in range(1, 11)]
    return figures | {
        "gsm8k_cascade_apgr_random": _random(problems, seed),
        "gsm8k_cascade_folds_least": round(min(others), 4),
        "gsm8k_cascade_folds_most": round(max(others), 4),
        **_agreement(problems),
    }


def _of_judge(problems: Problems, held_out: Matrix, seed: int) -> dict[str, Figure]:
    weak, strong = problems.weak_right, problems.strong_right
    probabilities = judge_training.calibrated_across(held_out, weak, judge_data.folds(problems, seed))
    others = judge_training.cross_fitted_strong(problems, seed)
    curve = _Curve(held_out, weak, strong, seed)
    mended = _Curve(held_out, weak, problems.strong_mended, seed)
    return {
        "gsm8k_cascade_apgr": curve.apgr(),
        "gsm8k_cascade_apgr_mended_labels": mended.apgr(),
        "gsm8k_cascade_cpt50": curve.calls_for(0.5),
        "gsm8k_cascade_cpt80": curve.calls_for(0.8),
        **{f"gsm8k_cascade_apgr_paid_{price:.2f}": curve.apgr_paid(price) for price in PRICE_SHARES},
        "gsm8k_cascade_strong_calls_at_95": round(metrics.strong_calls_for(0.95, -held_out, weak, strong), 4),
        "gsm8k_judge_auc": round(metrics.auc(held_out, weak), 4),
        "gsm8k_judge_ece": round(metrics.ece(probabilities, weak), 4),
        "gsm8k_judge_auc_other_model": round(metrics.auc(others, problems.strong_mended), 4),
        "gsm8k_always_small": round(float(weak.mean()), 4),
        "gsm8k_always_large": round(float(strong.mean()), 4),
    }


def _baselines(problems: Problems, seed: int) -> dict[str, Figure]:
    """Trust in each answer without the judge; chance decides between answers that are trusted alike."""
    chance = np.random.default_rng(seed).random(len(problems.prompts))
    trust = {
        "prompt_length": -np.array([float(len(prompt)) for prompt in problems.prompts]),
        "answer_length": -np.array([float(len(answer)) for answer in problems.weak_answers]),
        "arithmetic_rule": chance - 2.0 * np.array([_is_wrong(examined) for examined in problems.weak.examined]),
    }
    weak, strong = problems.weak_right, problems.strong_right
    return {name: _Curve(scores, weak, strong, seed).apgr() for name, scores in trust.items()}


def _is_wrong(examined: Examination) -> bool:
    return Finding.WRONG_ARITHMETIC in examined.findings


def _random(problems: Problems, seed: int) -> float:
    rng = np.random.default_rng(seed)
    drawn = [_plain_apgr(problems, rng.random(len(problems.prompts))) for _ in range(100)]
    return round(float(np.mean(drawn)), 4)


def _plain_apgr(problems: Problems, trust: Matrix) -> float:
    return metrics.apgr(-trust, problems.weak_right, problems.strong_right)


class _Curve:
    """The recovered gap by the share of large calls, least trusted answers first, with intervals."""

    def __init__(self, trust: Matrix, weak: Matrix, strong: Matrix, seed: int) -> None:
        self._gains = (strong - weak)[np.argsort(trust, kind="stable")]
        self._seed = seed

    def apgr(self) -> Figure:
        return self._interval(lambda share, recovered: float(np.trapezoid(recovered, share)))

    def calls_for(self, gap: float) -> Figure:
        """The least share of large calls that recovers so much of the gap (CPT)."""
        return self._interval(lambda share, recovered: float(share[np.argmax(recovered >= gap)]))

    def apgr_paid(self, price: float) -> Figure:
        """Over the total cost instead, where each question has paid `price` for the small call."""
        cost = np.linspace(0.0, 1.0, 1_001)
        return self._interval(
            lambda share, recovered: float(np.trapezoid(np.interp(cost - price, share, recovered, left=0.0), cost))
        )

    def _interval(self, figure: Callable[[Matrix, Matrix], float]) -> Figure:
        count = len(self._gains)
        rng = np.random.default_rng(self._seed)
        times = rng.multinomial(count, np.full(count, 1.0 / count), size=DRAWS).astype(np.float64)
        drawn = [figure(*self._points(row)) for row in times]
        low, high = np.quantile(drawn, (0.025, 0.975))
        value = figure(*self._points(np.ones(count)))
        return round(value, 4), round(float(low), 4), round(float(high), 4)

    def _points(self, times: Matrix) -> tuple[Matrix, Matrix]:
        """Shares of large calls and of the gap, each question counted so many times."""
        recovered = np.concatenate([[0.0], np.cumsum(times * self._gains)])
        return np.concatenate([[0.0], np.cumsum(times)]) / times.sum(), recovered / recovered[-1]


def _agreement(problems: Problems) -> dict[str, Figure]:
    found = judge_training.agreement_figures(problems)
    return {f"gsm8k_{name}": round(value, 4) for name, value in found.items()}
