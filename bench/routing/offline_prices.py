"""Three tiers of real models and prices: what routing between them costs and answers, beside each model alone.

The tiers are classes of price: the cheapest models, the other small ones, and the large ones. Each task names its own
model in each tier, as a policy of the gateway may: the best of the class on the other folds for the questions that were
taken for that task. Cost is price times the prompt's tokens and the expected answer's.
"""

from dataclasses import dataclass

import numpy as np

from bench.results import Figure
from bench.routing import bootstrap
from bench.routing.offline_study import Study
from farthing_models import routing_data
from farthing_models.corpus import TASKS, Numbers
from farthing_models.fitting import Matrix
from farthing_models.routing_data import LARGE_AT_LEAST, NINE, SMALL_AT_MOST, billions

CHARS_PER_TOKEN = 4.0
# Dollars per thousand requests that one more right answer in a thousand may cost: the weights that are tried.
WEIGHTS = np.concatenate([[0.0], np.geomspace(1e-3, 100.0, 120)])
LIKE_ROWS = 20.0


@dataclass(frozen=True)
class Market:
    """Questions with every model's score, and what each model would charge: dollars per thousand requests."""

    names: tuple[str, ...]
    scores: Matrix
    costs: Matrix
    tiers: tuple[tuple[int, ...], ...]


def figures(study: Study) -> dict[str, Figure]:
    """For each model the routed quality at no more than its cost, and the routed cost at no less than its quality."""
    price = routing_data.prices(study.data)
    rows = study.corpus.of(NINE)
    market = _market(study, rows, price)
    if market is None:
        return {}
    tasks = study.random.tasks[rows].argmax(axis=1)
    worth = _worth(market, tasks, study.random_success[rows], study.random.folds[rows])
    made: dict[str, Figure] = {}
    margins = []
    for number, name in enumerate(market.names):
        chosen, paid = _routed(market, worth, study.random.folds[rows], float(market.costs[:, number].mean()))
        gained = bootstrap.mean(chosen - market.scores[:, number], study.seed)
        made[f"front_{name}_quality"] = round(float(market.scores[:, number].mean()), 4)
        made[f"front_{name}_cost"] = round(float(market.costs[:, number].mean()), 4)
        made[f"front_over_{name}_quality_gain"] = gained
        made[f"front_over_{name}_cost_share"] = round(float(paid.mean() / market.costs[:, number].mean()), 4)
        margins.append(gained)
    made["front_least_gain_over_a_model"] = min(margins)
    made["front_models_beaten"] = sum(gained[0] > 0.0 for gained in margins)
    made["front_models"] = len(margins)
    return made


def _market(study: Study, rows: Numbers, price: dict[str, float]) -> Market | None:
    entries = [study.corpus.rows[row] for row in rows]
    names = tuple(sorted(name for name in entries[0].scores if name in price))
    small = [number for number, name in enumerate(names) if 0.0 < billions(name) <= SMALL_AT_MOST]
    large = tuple(number for number, name in enumerate(names) if billions(name) >= LARGE_AT_LEAST)
    if not small or not large:
        return None
    cheapest = min(price[names[number]] for number in small)
    tiers = (
        tuple(number for number in small if price[names[number]] == cheapest),
        tuple(number for number in small if price[names[number]] > cheapest),
        large,
    )
    asked = np.asarray([len(entry.text) / CHARS_PER_TOKEN for entry in entries])
    tokens = asked + np.exp(study.random.lengths[rows][:, 1])
    costs = np.column_stack([price[name] * tokens / 1e3 for name in names])
    scores = np.asarray([[entry.scores[name] for name in names] for entry in entries])
    return Market(names, scores, costs, tuple(tier for tier in tiers if tier))


@dataclass(frozen=True)
class Worth:
    """For each question and tier: the model that its task names, and its expected score; the same for training rows
    of each fold, so that the weight of money can be chosen there."""

    models: Numbers
    expected: Matrix


def _worth(market: Market, tasks: Numbers, success: Matrix, folds: Numbers) -> Worth:
    """Expected score = the calibrated success of the class of models, and what the task's model has over it there."""
    models = np.zeros((len(tasks), len(market.tiers)), dtype=np.int64)
    expected = np.zeros(models.shape)
    for fold in np.unique(folds):
        test = folds == fold
        for tier, members in enumerate(market.tiers):
            level = success[:, 2 if tier == len(market.tiers) - 1 else 0]
            for task in range(len(TASKS)):
                train = ~test & (tasks == task)
                best, offset = _best(market.scores[train][:, members], level[train], market.scores[~test][:, members])
                cell = test & (tasks == task)
                models[cell, tier] = members[best]
                expected[cell, tier] = level[cell] + offset
    return Worth(models, expected)


def _best(scores: Matrix, level: Matrix, elsewhere: Matrix) -> tuple[int, float]:
    """The model with the best mean, which leans towards its mean over all tasks; and its mean distance to `level`."""
    means = (scores.sum(axis=0) + LIKE_ROWS * elsewhere.mean(axis=0)) / (len(scores) + LIKE_ROWS)
    best = int(means.argmax())
    distance = float((scores[:, best] - level).sum() / (len(scores) + LIKE_ROWS)) if len(scores) else 0.0
    return best, distance


def _routed(market: Market, worth: Worth, folds: Numbers, limit: float) -> tuple[Matrix, Matrix]:
    """Scores and costs of the chosen models; the weight of money keeps to the mean cost `limit` on the other folds."""
    score, cost = np.zeros(len(folds)), np.zeros(len(folds))
    each = np.arange(len(folds))[:, None]
    costs, scores = market.costs[each, worth.models], market.scores[each, worth.models]
    for fold in np.unique(folds):
        test = folds == fold
        weight = _weight(worth.expected[~test], costs[~test], scores[~test], limit)
        tier = (worth.expected[test] - weight * costs[test]).argmax(axis=1)
        rows = np.flatnonzero(test)
        score[rows], cost[rows] = scores[rows, tier], costs[rows, tier]
    return score, cost


def _weight(expected: Matrix, costs: Matrix, scores: Matrix, limit: float) -> float:
    """The weight with the best quality among those that keep to the limit; the highest where none does."""
    best, quality = float(WEIGHTS[-1]), -1.0
    each = np.arange(len(costs))
    for weight in WEIGHTS:
        tier = (expected - weight * costs).argmax(axis=1)
        reached = float(scores[each, tier].mean())
        if costs[each, tier].mean() <= limit and reached > quality:
            best, quality = float(weight), reached
    return best
