"""Training: the pipeline on a handful of questions, and the shipped heads against the files that they came from."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import SHIPPED, OnnxHeads
from farthing_classifier.domain import calibration, lexical, ngrams, views
from farthing_classifier.ports import Encoded, EncoderInfo
from farthing_models import (
    calibrating,
    corpus,
    evaluation,
    fitting,
    heads,
    heads_graph,
    routing_data,
    task_seeds,
    train_classifier,
)
from farthing_models.corpus import Corpus, Views
from farthing_models.heads import FittedHeads
from farthing_models.routing_data import DataError
from farthing_models.task_seeds import Seed

# Seconds on an idle machine; minutes on a busy one, or when the weights have to be fetched first.
pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
ENCODER_DIR = ROOT / "build" / "models" / "encoder"
SHARED = ROOT.parent / "shared" / "data" / "routing"
CARD = ROOT / "models" / "cards" / "heads-v3.md"

MODELS = ("llama-3.1-8b-instruct", "gemma-2-9b-it", "llama-3.1-nemotron-51b-instruct", "llama3-chatqa-1.5-70b")
SHARE = {"llama-3.1-8b-instruct": 0.6, "gemma-2-9b-it": 0.4, "llama-3.1-nemotron-51b-instruct": 0.9}


@dataclass(frozen=True)
class HashEncoder:
    """Any vector will do to see whether the pipeline holds together."""

    @property
    def info(self) -> EncoderInfo:
        return EncoderInfo("hash", "e" * 64, 384, 128, "CPUExecutionProvider")

    def encode(self, text: str) -> Encoded:
        vector = np.random.default_rng(ngrams.bucket(text)).normal(size=384).astype(np.float32)
        return Encoded(vector / np.linalg.norm(vector), 1, truncated=False)


@pytest.fixture(scope="session")
def encoder_dir() -> Path:
    if not (ENCODER_DIR / "manifest.json").is_file():
        pytest.fail("there is no encoder in build/models/encoder: run `make models`")
    return ENCODER_DIR


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outcome sets of the real form, with made-up questions."""
    folder = tmp_path_factory.mktemp("data")
    rng = random.Random(1)
    nine = [
        {
            "question": f"Question {number}: how many apples cost {number * 3} dollars?",
            "task": rng.choice(["gsm8k", "trivia_qa", "mbpp", "commongen", "math", "mmlu"]),
            "scores": {model: float(rng.random() < SHARE.get(model, 0.1)) for model in MODELS},
        }
        for number in range(150)
    ]
    pair = [
        {"prompt": f"Which of {number} is right?\nA. x\nB. y\nAnswer:", "subject": f"subject{number % 6}"}
        | {"weak_correct": rng.random() < 0.6, "strong_correct": rng.random() < 0.9}
        for number in range(150)
    ]
    solved = [{**row, "prompt": f"Solve {row['prompt']}", "strong_response": "It is so. " * 9} for row in pair]
    for name, rows in ((routing_data.NINE, nine), (routing_data.MMLU, pair), (routing_data.GSM8K, solved)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="session")
def made(small_data: Path) -> Corpus:
    return corpus.make(routing_data.load(small_data), one_of_each(), HashEncoder(), None)


def one_of_each() -> list[Seed]:
    seeds = task_seeds.seeds(1)
    return list({seed.template: seed for seed in seeds}.values())


@pytest.fixture(scope="session")
def fitted(made: Corpus, encoder_dir: Path) -> FittedHeads:
    tokenizer = train_classifier.load_tokenizer(encoder_dir)
    return heads.fit(made, np.ones(len(made.task), dtype=bool), 1, tokenizer)


def run(graph: bytes, feeds: dict[str, np.ndarray], outputs: Sequence[str]) -> list[np.ndarray]:
    return list(ort.InferenceSession(graph).run(list(outputs), feeds))


def fed(seen: Views) -> dict[str, np.ndarray]:
    """One text, as the first graph takes it."""
    feeds: dict[str, np.ndarray] = {}
    for name, view in (("", seen.whole), ("rest_", seen.rest)):
        buckets = np.asarray(view.bags.matrix[0].indices, dtype=np.int64)
        feeds[f"{name}ngrams"] = buckets if len(buckets) else np.zeros(1, dtype=np.int64)
        feeds[f"{name}lexical"] = view.lexical.astype(np.float32)
    return feeds


def test_the_first_graph_computes_what_was_fitted(made: Corpus, fitted: FittedHeads) -> None:
    graph = heads_graph.build_stage0(fitted.stage0)
    names = ["tier_scores", "task", "log_tokens", "familiarity", "doubt"]
    for row in (0, 170, 320, len(made.task) - 1):
        one = np.arange(len(made.task)) == row
        feeds = fed(seen := made.views(one))
        scores, tasks, lengths, familiarity, doubt = run(graph, feeds, names)
        bags, surface = seen.whole.bags, seen.whole.lexical
        expected = fitted.stage0.tasks(seen.whole)
        np.testing.assert_allclose(scores, fitted.stage0.scores(seen), atol=1e-4)
        np.testing.assert_allclose(tasks, expected, atol=1e-5)
        scaled = fitted.stage0.gain.scaler.scaled(surface)
        np.testing.assert_allclose(lengths, fitted.stage0.lengths(expected, surface, scaled), atol=1e-4)
        np.testing.assert_allclose(familiarity, fitted.stage0.familiar(bags), atol=1e-5)
        np.testing.assert_allclose(doubt, fitted.stage0.doubts(seen), atol=1e-5)


def test_the_second_graph_computes_what_was_fitted_for_many_texts_at_once(made: Corpus, fitted: FittedHeads) -> None:
    graph = heads_graph.build_stage1(fitted.stage1)
    rows = np.arange(len(made.task)) % 50 == 0
    first, both = fitted.scores(made, rows)
    given = {"embedding": made.embeddings[rows], "lexical": made.lexical[rows], "stage0_scores": first}
    feeds = {name: np.asarray(each, dtype=np.float32) for name, each in given.items()}
    scores, tasks, familiarity = run(graph, feeds, ["tier_scores", "task", "familiarity"])
    np.testing.assert_allclose(scores, both, atol=1e-4)
    np.testing.assert_allclose(tasks, fitted.stage1.tasks(made.embeddings[rows], made.lexical[rows]), atol=1e-5)
    np.testing.assert_allclose(familiarity, fitted.stage1.familiar(made.embeddings[rows]), atol=1e-5)


def test_a_text_without_words_is_judged_by_its_surface_alone(fitted: FittedHeads) -> None:
    feeds = fed(corpus.Views.of(["?!"]))
    scores, familiarity = run(heads_graph.build_stage0(fitted.stage0), feeds, ["tier_scores", "familiarity"])
    assert np.isfinite(scores).all()
    assert familiarity == [0.0]


def test_the_same_seed_gives_the_same_bytes(made: Corpus, fitted: FittedHeads, encoder_dir: Path) -> None:
    again = heads.fit(made, np.ones(len(made.task), dtype=bool), 1, train_classifier.load_tokenizer(encoder_dir))
    assert heads_graph.build_stage0(again.stage0) == heads_graph.build_stage0(fitted.stage0)
    assert heads_graph.build_stage1(again.stage1) == heads_graph.build_stage1(fitted.stage1)


def test_scores_rise_from_tier_to_tier_whatever_was_fitted() -> None:
    worth = np.random.default_rng(2).normal(scale=2.0, size=(500, 2))
    scores = heads.tier_scores(worth)
    assert np.isfinite(scores).all()
    assert (np.diff(scores, axis=1) >= 0.0).all()


def test_a_larger_gain_is_a_larger_gain_below_zero_too() -> None:
    worth = np.column_stack([np.full(50, 0.5), np.linspace(-0.2, 0.3, 50)])
    odds = fitting.sigmoid(heads.tier_scores(worth))
    assert (np.diff(odds[:, 2] - odds[:, 0]) > 0.0).all()


def test_the_calibration_rises_strictly_and_is_taken_by_the_service() -> None:
    curves = calibrating.Curves(0.9, 0.1)
    made = curves.calibration("v.1", "heads")
    assert calibration.parse(json.loads(json.dumps(calibration.content(made)))) == made
    for number, tier in enumerate(made.curves.values()):
        assert (np.diff(tier.probabilities) > 0.0).all()
        assert tier.probability(0.5) == pytest.approx(curves.successes(np.full((1, 3), 0.5))[0, number], abs=1e-5)


def test_calibration_is_measured_on_folds_that_it_was_not_fitted_on(made: Corpus) -> None:
    folds = np.arange(len(made.task)) % 5
    scores = np.tile(np.linspace(-1, 1, len(made.task))[:, None], (1, 3))
    whole = calibrating.cross_calibrated(made, scores, scores, folds)
    changed = Corpus(**{name: getattr(made, name) for name in Corpus.__slots__} | {"small": made.small.copy()})
    changed.small[folds == 2] = 0.0
    again = calibrating.cross_calibrated(changed, scores, scores, folds)
    np.testing.assert_array_equal(whole[folds == 2], again[folds == 2])
    assert (whole[folds == 1] != again[folds == 1]).any()


def test_folds_by_group_split_no_group(made: Corpus) -> None:
    folds = evaluation.by_group(made, 3)
    places: dict[str, set[int]] = {}
    for name, fold in zip(made.group, folds, strict=True):
        places.setdefault(name, set()).add(int(fold))
    assert all(len(found) == 1 for found in places.values())


def test_a_level_comes_from_the_reference_pair_and_other_pairs_teach_differences(made: Corpus) -> None:
    levels, deviations, _ = heads.targets(made, np.ones(len(made.task), dtype=bool))
    chat = made.kinds.index("written:chat")
    small, large = task_seeds.ASSUMED_SUCCESS["chat"]
    assert levels[chat].tolist() == pytest.approx([small, large - small])
    options = made.kind == made.kinds.index("mmlu_with_options")
    np.testing.assert_allclose(deviations[options].mean(axis=0), 0.0, atol=1e-9)


def test_the_reference_models_are_the_best_small_and_the_best_large_one() -> None:
    entries = [{"scores": {"a-7b": 0.4, "b-9b": 0.6, "c-51b": 0.7, "d-70b": 0.2, "e-8x7b": 0.65}}]
    assert routing_data.reference_models(entries) == ("b-9b", "c-51b")
    with pytest.raises(DataError, match="needs a model of at most"):
        routing_data.reference_models([{"scores": {"a-7b": 1.0}}])


def test_the_pipeline_makes_heads_that_the_service_takes(
    encoder_dir: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_seeds, "PER_TEMPLATE", 1)
    monkeypatch.setattr(evaluation, "FOLDS", 2)
    out = tmp_path / "heads"
    arguments = ["--data", str(small_data), "--encoder", str(encoder_dir), "--out", str(out)]
    assert train_classifier.main([*arguments, "--cache", str(tmp_path / "cache")]) == 0
    trained = OnnxHeads.load(out)
    encoder = OnnxEncoder.load(encoder_dir, window_tokens=128, threads=1)
    seen = views.of("How many?")
    first = trained.first(seen)
    both = trained.second(encoder.encode("How many?").embedding, seen.whole.lexical, first)
    assert both.tiers == tuple(sorted(both.tiers))
    assert trained.info.encoder_sha256 == encoder.info.sha256
    calibration.parse(json.loads((out / "calibration.json").read_text())).must_belong_to(trained.info.version)


def test_missing_data_is_said_in_one_line(
    encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_classifier.main(["--data", str(tmp_path), "--encoder", str(encoder_dir), "--out", str(tmp_path)]) == 1
    assert "--data names the folder" in capsys.readouterr().err


def test_a_missing_encoder_is_said_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert train_classifier.main(["--data", str(tmp_path), "--encoder", str(tmp_path), "--out", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_a_question_that_comes_twice_is_kept_once(small_data: Path, tmp_path: Path) -> None:
    for path in small_data.iterdir():
        (tmp_path / path.name).write_text(path.read_text() * (2 if path.stem == routing_data.MMLU else 1))
    texts = [row.text for row in routing_data.load(tmp_path)]
    assert len(texts) == len(set(texts)) == 450


def test_written_prompts_are_the_same_each_time_and_cover_every_task() -> None:
    seeds = task_seeds.seeds(3)
    assert seeds == task_seeds.seeds(3)
    assert {seed.task for seed in seeds} == set(corpus.TASKS)
    assert not [seed.text for seed in seeds if "{topic}" in seed.text or "{text}" in seed.text]


def test_the_shipped_heads_are_whole_and_say_what_they_are() -> None:
    manifest = json.loads((SHIPPED / "heads.json").read_text())
    for name, entry in manifest["files"].items():
        assert hashlib.sha256((SHIPPED / name).read_bytes()).hexdigest() == entry["sha256"]
    assert manifest["lexical_features"] == list(lexical.NAMES)
    assert manifest["tasks"] == list(corpus.TASKS)
    assert set(manifest["length_basis"]) == set(corpus.TASKS)
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 4_000_000


def test_the_model_card_quotes_the_figures_of_the_shipped_heads() -> None:
    """Each figure in the card's tables stands beside its name in heads.json."""
    held_out = json.loads((SHIPPED / "heads.json").read_text())["held_out"]
    rows = [line.split("|")[1:3] for line in CARD.read_text().splitlines() if line.startswith("| `")]
    quoted = {name.strip().strip("`"): float(value) for name, value in rows}
    assert len(quoted) >= 15
    assert quoted == {name: pytest.approx(held_out[name], abs=0.0006) for name in quoted}


def test_the_shipped_heads_were_trained_on_the_shared_questions(encoder_dir: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("the routing outcome sets are not beside this checkout: see models/cards/heads-v3.md")
    try:
        rows = routing_data.load(SHARED)
    except DataError as error:
        pytest.skip(str(error))
    training = json.loads((SHIPPED / "heads.json").read_text())["training"]
    assert training["outcome_rows"] == len(rows)
    texts = [row.text for row in rows] + [seed.text for seed in task_seeds.seeds(train_classifier.SEED)]
    encoder = OnnxEncoder.load(encoder_dir, window_tokens=train_classifier.WINDOW_TOKENS, threads=1)
    assert training["texts_sha256"] == corpus.digest(texts, encoder.info)
