"""How the heads do on what they were not fitted on: five folds at random, and five that leave whole groups out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from farthing_classifier.domain import lexical, ngrams, wording
from farthing_models import bags, calibrating, fitting, forest, heads, lengths, metrics, prefixes, task_seeds
from farthing_models.calibrating import Curves
from farthing_models.corpus import TASKS, Corpus, Mask, Numbers
from farthing_models.fitting import Matrix
from farthing_models.heads import FittedHeads
from farthing_models.routing_data import GSM8K, MMLU, NINE, SOURCES

FOLDS: Final = 5
# What leaving the encoder out may cost: the doubt below which it is left out is the highest that keeps to this.
ENCODER_SPARING_LOSS: Final = 0.005
NO_SIGNAL_QUANTILE: Final = 0.0005
OUT_OF_DOMAIN_QUANTILE: Final = 0.01

Figures = dict[str, float]

SHORT: Final = {NINE: "nine", MMLU: "mmlu", GSM8K: "gsm8k"}


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """What heads say of texts whose fold they have not seen; every array has one entry for each text."""

    folds: Numbers
    first: Matrix
    both: Matrix
    first_tasks: Matrix
    tasks: Matrix
    lengths: Matrix
    doubt: Matrix
    familiarity: Matrix


def at_random(corpus: Corpus, seed: int) -> Numbers:
    """Five folds."""
    return np.random.default_rng(seed).integers(0, FOLDS, len(corpus.task))


def by_group(corpus: Corpus, seed: int) -> Numbers:
    """Five folds with each group whole in one: subjects, benchmarks, templates. GSM8K is one group, apart from the
    questions of it that the other set holds."""
    names = sorted(set(corpus.group))
    fold = dict(zip(names, np.random.default_rng(seed).permutation(len(names)) % FOLDS, strict=True))
    return np.asarray([fold[name] for name in corpus.group], dtype=np.int64)


def cross_fit(corpus: Corpus, folds: Numbers, seed: int, tokenizer: Tokenizer, cache: Path | None = None) -> Held:
    """Fits all heads once for each fold, on the others; or takes what the same code said of the same data before."""
    stored = cache / f"held-{_digest(corpus, folds, seed)}.npz" if cache is not None else None
    if stored is not None and stored.is_file():
        with np.load(stored) as kept:
            return Held(*(kept[name] for name in Held.__slots__))
    held = _cross_fit(corpus, folds, seed, tokenizer)
    if stored is not None:
        stored.parent.mkdir(parents=True, exist_ok=True)
        np.savez(stored, **{name: getattr(held, name) for name in Held.__slots__})
    return held


def _digest(corpus: Corpus, folds: Numbers, seed: int) -> str:
    """Names the data, the folds, and the source that fits."""
    modules = (lexical, ngrams, wording, bags, fitting, forest, heads, lengths, prefixes, task_seeds)
    source = "".join(Path(module.__file__ or "").read_text("utf-8") for module in modules)
    parts = [corpus.sha256, repr(corpus.group), source, str(seed)]
    numbers = [corpus.small, corpus.large, folds]
    return hashlib.sha256("\0".join(parts).encode() + b"".join(each.tobytes() for each in numbers)).hexdigest()[:32]


def _cross_fit(corpus: Corpus, folds: Numbers, seed: int, tokenizer: Tokenizer) -> Held:
    parts = {
        int(fold): _said(heads.fit(corpus, folds != fold, seed, tokenizer), corpus, folds == fold)
        for fold in np.unique(folds)
    }
    joined = []
    for column in zip(*parts.values(), strict=True):
        whole = np.zeros((len(folds), *column[0].shape[1:]))
        for fold, part in zip(parts, column, strict=True):
            whole[folds == fold] = part
        joined.append(whole)
    return Held(folds, *joined)


def _said(fitted: FittedHeads, corpus: Corpus, rows: Mask) -> tuple[Matrix, ...]:
    views, surface, embeddings = corpus.views(rows), corpus.lexical[rows], corpus.embeddings[rows]
    first, both = fitted.scores(corpus, rows)
    tasks = fitted.stage1.tasks(embeddings, surface)
    return (
        first,
        both,
        fitted.stage0.tasks(views.whole),
        tasks,
        fitted.stage1.lengths(tasks, surface, fitted.stage1.scaler.scaled(surface)),
        fitted.stage0.doubts(views),
        fitted.stage1.familiar(embeddings),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """Held-out figures by name, and what was chosen on held-out folds."""

    figures: Figures
    curves: Curves
    doubt_limit: float
    out_of_domain: float
    no_signal: float
    complexity: Matrix
    familiarity: Matrix


def evaluate(corpus: Corpus, seed: int, tokenizer: Tokenizer, cache: Path | None = None) -> Evaluation:
    """Fits all heads ten times; takes minutes."""
    random = cross_fit(corpus, at_random(corpus, seed), seed, tokenizer, cache)
    strange = cross_fit(corpus, by_group(corpus, seed), seed, tokenizer, cache)
    curves = calibrating.fit(corpus, random.both)
    limit = doubt_limit(corpus, random, curves)
    figures: Figures = {}
    for name, held in (("in_domain", random), ("leave_groups_out", strange)):
        calibrated = calibrating.cross_calibrated(corpus, random.both, held.both, held.folds)
        figures |= routing_figures(corpus, calibrated[:, 2] - calibrated[:, 0], name)
        figures |= _calibration_figures(corpus, calibrated, name)
    first = calibrating.cross_calibrated(corpus, random.both, random.first, random.folds)
    figures |= routing_figures(corpus, first[:, 2] - first[:, 0], "first_stage_in_domain")
    figures["encoder_share"] = float((random.doubt > limit)[corpus.has_outcome].mean())
    figures |= (
        _baseline_figures(corpus) | _task_figures(corpus, random, strange) | _length_figures(corpus, random, tokenizer)
    )
    calibrated = curves.successes(random.both)
    return Evaluation(
        figures={name: round(value, 4) for name, value in figures.items()},
        curves=curves,
        doubt_limit=limit,
        out_of_domain=float(np.quantile(random.familiarity, OUT_OF_DOMAIN_QUANTILE)),
        no_signal=float(np.quantile(random.familiarity, NO_SIGNAL_QUANTILE)) / 2.0,
        complexity=(calibrated[:, 2] - calibrated[:, 0]) / calibrated[:, 2],
        familiarity=random.familiarity,
    )


def doubt_limit(corpus: Corpus, held: Held, curves: Curves) -> float:
    """The highest doubt up to which the first stage may have the last word: the mean APGR over the sets falls by at
    most ENCODER_SPARING_LOSS."""
    first, both = (odds[:, 2] - odds[:, 0] for odds in map(curves.successes, (held.first, held.both)))
    best = _mean_apgr(corpus, both)
    for limit in np.quantile(held.doubt, np.arange(0.95, 0.0, -0.05)):
        if _mean_apgr(corpus, np.where(held.doubt > limit, both, first)) >= best - ENCODER_SPARING_LOSS:
            return float(limit)
    return 0.0


def _mean_apgr(corpus: Corpus, gain: Matrix) -> float:
    parts = [corpus.of(source) for source in SOURCES]
    return float(np.mean([metrics.apgr(gain[rows], corpus.small[rows], corpus.large[rows]) for rows in parts]))


def routing_figures(corpus: Corpus, gain: Matrix, name: str) -> Figures:
    """How well a gain ranks the questions of each set."""
    figures: Figures = {}
    for source in SOURCES:
        rows, label = corpus.of(source), f"{SHORT[source]}_{name}"
        weak, strong = corpus.small[rows], corpus.large[rows]
        figures[f"apgr_{label}"] = metrics.apgr(gain[rows], weak, strong)
        figures[f"strong_calls_at_95_{label}"] = metrics.strong_calls_for(0.95, gain[rows], weak, strong)
    return figures


def _calibration_figures(corpus: Corpus, calibrated: Matrix, name: str) -> Figures:
    outcomes, known = calibrating.outcomes(corpus), corpus.has_outcome
    errors = {
        tier: metrics.ece(calibrated[known, column], outcomes[known, column])
        for column, tier in enumerate(calibrating.TIERS)
    }
    return {f"ece_{tier}_{name}": error for tier, error in errors.items()} | {f"ece_{name}": max(errors.values())}


def _baseline_figures(corpus: Corpus) -> Figures:
    """The length of the prompt as the score: what any router must beat. A random order has an APGR of 0.5."""
    lengths = np.zeros(len(corpus.task))
    lengths[: len(corpus.rows)] = [float(len(row.text)) for row in corpus.rows]
    return routing_figures(corpus, lengths, "by_length")


def _task_figures(corpus: Corpus, random: Held, strange: Held) -> Figures:
    """Rows of benchmarks by random folds; written prompts with their whole template left out."""
    probabilities = np.where(corpus.has_outcome[:, None], random.tasks, strange.tasks)
    right = probabilities.argmax(axis=1) == corpus.task
    known = corpus.task >= 0
    benchmarks, written = known & corpus.has_outcome, known & ~corpus.has_outcome
    figures = {
        "task_accuracy_benchmarks": float(right[benchmarks].mean()),
        "task_accuracy_unseen_templates": float(right[written].mean()),
        "task_accuracy_unseen_templates_first_stage": float(
            (strange.first_tasks.argmax(axis=1) == corpus.task)[written].mean()
        ),
        "task_ece": metrics.ece(probabilities.max(axis=1)[known], right[known].astype(np.float64)),
    }
    for number, task in enumerate(TASKS):
        figures[f"task_recall_unseen_templates_{task}"] = float(right[written & (corpus.task == number)].mean())
    return figures


def _length_figures(corpus: Corpus, held: Held, tokenizer: Tokenizer) -> Figures:
    """The share of GSM8K answers under each predicted quantile: should be the quantile."""
    everything = np.ones(len(corpus.task), dtype=bool)
    answered, values = heads.answer_lengths(corpus, everything, tokenizer)
    if not len(answered):
        return {}
    return {
        f"gsm8k_length_share_under_p{round(level * 100)}": float((values <= held.lengths[answered, column]).mean())
        for column, level in enumerate(heads.QUANTILES)
    }
