"""Transfer to other pairs of models: heads that have never seen a set of outcomes rank its questions."""

import numpy as np

from bench.results import Figure
from bench.routing.offline_study import ENCODER, Study
from farthing_models import fitting, heads, train_classifier
from farthing_models.evaluation import SHORT
from farthing_models.fitting import Matrix
from farthing_models.routing_data import NINE, SOURCES, billions


def figures(study: Study) -> dict[str, Figure]:
    """APGR of each set by heads that were fitted on the others, and of other pairs of the nine models."""
    made: dict[str, Figure] = {}
    tokenizer = train_classifier.load_tokenizer(ENCODER)
    for number, source in enumerate(SOURCES):
        rows = study.corpus.of(source)
        fitted = heads.fit(study.corpus, study.corpus.source != number, train_classifier.SEED, tokenizer)
        mask = np.zeros(len(study.corpus.task), dtype=bool)
        mask[rows] = True
        odds = fitting.sigmoid(fitted.scores(study.corpus, mask)[1])
        gain = np.zeros(len(study.corpus.task))
        gain[rows] = odds[:, 2] - odds[:, 0]
        made[f"transfer_to_{SHORT[source]}_apgr"] = study.apgr(gain, rows)
    return made | _other_pairs(study)


def _other_pairs(study: Study) -> dict[str, Figure]:
    """The same judgement, measured on pairs that the heads were not fitted on. Large models that are worse than the
    small one are left out: there is no gap to recover."""
    rows = study.corpus.of(NINE)
    entries = [study.corpus.rows[row] for row in rows]
    models = {name: np.asarray([entry.scores[name] for entry in entries]) for name in entries[0].scores}
    made: dict[str, Figure] = {}
    for weak, strong in _pairs(models, study.corpus.small[rows], study.corpus.large[rows]):
        gain = study.random_gain[rows]
        made[f"pair_{weak}_{strong}_apgr"] = round(_apgr(gain, models[weak], models[strong]), 4)
    return made


def _pairs(models: dict[str, Matrix], small: Matrix, large: Matrix) -> list[tuple[str, str]]:
    weak = [name for name, scores in models.items() if billions(name) <= 15.0 and not np.array_equal(scores, small)]
    strong = [name for name, scores in models.items() if np.array_equal(scores, large)]
    return [(a, b) for a in sorted(weak) for b in strong if models[b].mean() > models[a].mean() + 0.02]


def _apgr(gain: Matrix, weak: Matrix, strong: Matrix) -> float:
    order = np.argsort(-gain, kind="stable")
    recovered = np.concatenate([[0.0], np.cumsum((strong - weak)[order])])
    return float(np.trapezoid(recovered / recovered[-1], dx=1.0 / len(order)))
