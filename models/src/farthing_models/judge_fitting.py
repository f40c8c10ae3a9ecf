"""The judge's model: a logistic regression over the features of an answer, and declared weights for what was found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from farthing_classifier.domain.judging.examination import EVIDENCE
from farthing_models.fitting import Matrix
from farthing_models.judge_data import Answers

CLIP: Final = 4.0
# From 10 to 100 the held-out figures are the same.
RIDGE: Final = 25.0
# The strong model's answers count half: they teach what other models' answers look like; the weak one's are to be
# judged.
STRONG_WEIGHT: Final = 0.5

# In log-odds, for what no outcome data exist: set, not learnt. models/cards/judge-v1.md says why so much.
EVIDENCE_WEIGHTS: Final = {
    "empty": -8.0,
    "refusal": -5.0,
    "repetitive": -4.0,
    "invalid_json": -4.0,
    "cut_off": -3.0,
    "code_does_not_parse": -3.0,
    "wrong_arithmetic": -2.2,
    "no_final_answer": -2.0,
    "too_short": -2.0,
    "hedging": -1.0,
    "surprise": -1.0,
    "arithmetic_holds": 0.2,
    "code_parses": 0.3,
    "valid_json": 0.5,
}


@dataclass(frozen=True, slots=True, eq=False)
class FittedJudge:
    """log-odds = prior + evidence · weights; with numbers, weights · numbers + prior_weight · prior for the prior."""

    mean: Matrix
    deviation: Matrix
    weights: Matrix
    bias: float
    prior_weight: float
    evidence_weights: Matrix

    def log_odds(self, answers: Answers, prior: Matrix) -> Matrix:
        """Of each row, given the log-odds of its prior."""
        learnt = _scaled(answers.numbers, self.mean, self.deviation) @ self.weights + self.bias
        worked_out = learnt + self.prior_weight * prior
        base = np.where(answers.with_numbers > 0.0, worked_out, prior)
        return np.asarray(base + answers.evidence @ self.evidence_weights)

    def calibrated(self, slope: float, shift: float) -> FittedJudge:
        """What the numbers say, as slope · log-odds + shift."""
        return FittedJudge(
            self.mean,
            self.deviation,
            self.weights * slope,
            self.bias * slope + shift,
            self.prior_weight * slope,
            self.evidence_weights,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Answers, whether they are right, the log-odds of the prior, and what each row weighs."""

    answers: Answers
    right: Matrix
    prior: Matrix
    weight: Matrix


def fit(examples: Examples) -> FittedJudge:
    """Ridge logistic regression by Newton's method: no chance in it."""
    rows = examples.answers.with_numbers > 0.0
    numbers, weight = examples.answers.numbers[rows], examples.weight[rows]
    mean = np.average(numbers, axis=0, weights=weight)
    deviation = np.sqrt(np.average((numbers - mean) ** 2, axis=0, weights=weight)) + 1e-2
    evidence_weights = np.array([EVIDENCE_WEIGHTS[name] for name in EVIDENCE])
    # What is declared stays fixed: the regression explains what it leaves.
    offset = examples.answers.evidence[rows] @ evidence_weights
    columns = [_scaled(numbers, mean, deviation), examples.prior[rows, None], np.ones((int(rows.sum()), 1))]
    found = logistic(np.hstack(columns), examples.right[rows], weight, offset, free=2)
    return FittedJudge(mean, deviation, found[:-2], float(found[-1]), float(found[-2]), evidence_weights)


def logistic(
    inputs: Matrix, right: Matrix, weight: Matrix, offset: Matrix, *, free: int = 1, ridge: float = RIDGE
) -> Matrix:
    """Weights of a logistic regression; the last `free` columns are not held down by the ridge."""
    found = np.zeros(inputs.shape[1])
    penalty = np.full(len(found), ridge)
    penalty[-free:] = 1e-3
    for _ in range(50):
        share = sigmoid(inputs @ found + offset)
        gradient = inputs.T @ (weight * (share - right)) + penalty * found
        curvature = (inputs * (weight * share * (1.0 - share))[:, None]).T @ inputs + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        found -= step
        if np.abs(step).max() < 1e-9:
            break
    return found


def platt(log_odds: Matrix, right: Matrix) -> tuple[float, float]:
    """The slope and shift that calibrate."""
    inputs = np.stack([log_odds, np.ones(len(log_odds))], axis=1)
    slope, shift = logistic(inputs, right, np.ones(len(right)), np.zeros(len(right)), free=2)
    return float(slope), float(shift)


def sigmoid(values: Matrix) -> Matrix:
    """Log-odds to probabilities."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -40.0, 40.0))))


def logit(share: float) -> float:
    """Probability to log-odds."""
    return float(np.log(share / (1.0 - share)))


def _scaled(numbers: Matrix, mean: Matrix, deviation: Matrix) -> Matrix:
    return np.clip((numbers - mean) / deviation, -CLIP, CLIP)
