"""The corpus, and what heads say of each of its texts that have not seen it: shared by the offline figures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.routing import bootstrap
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_models import calibrating, corpus, evaluation, metrics, routing_data, task_seeds, train_classifier
from farthing_models.corpus import Corpus, Numbers
from farthing_models.evaluation import Held
from farthing_models.fitting import Matrix

ENCODER = Path("build/models/encoder")
CACHE = Path("build/models/embeddings")


@dataclass(frozen=True)
class Study:
    """Held-out judgements by random folds and by folds that leave groups out, calibrated on the other folds."""

    data: Path
    seed: int
    encoder: OnnxEncoder
    corpus: Corpus
    random: Held
    strange: Held
    random_success: Matrix
    strange_success: Matrix
    first_success: Matrix
    doubt_limit: float

    @property
    def gain(self) -> Matrix:
        """What the large model really added."""
        return self.corpus.large - self.corpus.small

    @property
    def random_gain(self) -> Matrix:
        """What it was expected to add, in domain."""
        return self.random_success[:, 2] - self.random_success[:, 0]

    @property
    def strange_gain(self) -> Matrix:
        """The same by heads that have seen nothing of the group."""
        return self.strange_success[:, 2] - self.strange_success[:, 0]

    @property
    def first_gain(self) -> Matrix:
        """In domain, by the first stage alone."""
        return self.first_success[:, 2] - self.first_success[:, 0]

    def apgr(self, gain: Matrix, rows: Numbers) -> bootstrap.Interval:
        """With its interval."""
        return bootstrap.apgr(gain[rows], self.corpus.small[rows], self.corpus.large[rows], self.seed)

    def ece(self, probabilities: Matrix, outcomes: Matrix) -> bootstrap.Interval:
        """Expected calibration error with its interval. An interval of an absolute value leans upwards."""

        def figure(times: Matrix) -> float:
            drawn = np.repeat(np.arange(len(times)), times.astype(np.int64))
            return metrics.ece(probabilities[drawn], outcomes[drawn])

        return bootstrap.interval(metrics.ece(probabilities, outcomes), figure, len(outcomes), self.seed)


def load(data: Path, seed: int) -> Study:
    """Reads, embeds and fits ten times; folds and seeds of the heads are those of the training pipeline."""
    encoder = OnnxEncoder.load(ENCODER, window_tokens=train_classifier.WINDOW_TOKENS, threads=1)
    made = corpus.make(routing_data.load(data), task_seeds.seeds(train_classifier.SEED), encoder, CACHE)
    tokenizer = train_classifier.load_tokenizer(ENCODER)
    heads_seed = train_classifier.SEED
    random = evaluation.cross_fit(made, evaluation.at_random(made, heads_seed), heads_seed, tokenizer, CACHE)
    strange = evaluation.cross_fit(made, evaluation.by_group(made, heads_seed), heads_seed, tokenizer, CACHE)
    curves = calibrating.fit(made, random.both)
    return Study(
        data=data,
        seed=seed,
        encoder=encoder,
        corpus=made,
        random=random,
        strange=strange,
        random_success=calibrating.cross_calibrated(made, random.both, random.both, random.folds),
        strange_success=calibrating.cross_calibrated(made, random.both, strange.both, strange.folds),
        first_success=calibrating.cross_calibrated(made, random.both, random.first, random.folds),
        doubt_limit=evaluation.doubt_limit(made, random, curves),
    )
