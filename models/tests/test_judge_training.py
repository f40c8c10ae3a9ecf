"""Training of the judge: the pipeline on made-up problems, and the shipped judge against the data it came from."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import numpy as np
import pytest

from farthing_classifier.adapters.onnx_judge import SHIPPED, OnnxJudge
from farthing_classifier.domain.judging.examination import EVIDENCE
from farthing_models import judge_data, judge_fitting, judge_graph, judge_training
from farthing_models.judge_fitting import EVIDENCE_WEIGHTS, logit, sigmoid
from farthing_models.routing_data import GSM8K

ROOT = Path(__file__).parents[2]
SHARED = ROOT.parent / "shared" / "data" / "routing"
CARD = ROOT / "models" / "cards" / "judge-v1.md"


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Problems of the real form: who computes wrongly is wrong, and sometimes who does not."""
    rng = random.Random(7)
    folder = tmp_path_factory.mktemp("routing")
    (folder / f"{GSM8K}.jsonl").write_text("".join(json.dumps(_problem(rng)) + "\n" for _ in range(120)))
    return folder


def _problem(rng: random.Random) -> dict[str, object]:
    boxes, eggs, eaten = rng.randint(2, 9), rng.randint(6, 12), rng.randint(1, 5)
    slip = rng.choice([0, 0, 1, 2])
    total = boxes * eggs
    return {
        "prompt": f"Ann buys {boxes} boxes of {eggs} eggs. She eats {eaten} eggs. How many eggs are left?",
        "weak_correct": slip == 0 and rng.random() < 0.9,
        "strong_correct": rng.random() < 0.95,
        "weak_response": f"{boxes} * {eggs} = {total + slip}. {total + slip} - {eaten} = {total + slip - eaten}\n"
        f"#### {total + slip - eaten}",
        "strong_response": f"There are {boxes} * {eggs} = {total} eggs; {total} - {eaten} = {total - eaten}.",
    }


def test_training_learns_what_tells_right_from_wrong_and_writes_what_the_service_loads(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert judge_training.main(["--data", str(data), "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out)["auc"] > 0.8
    assert OnnxJudge.load(tmp_path).version.startswith("judge-v1+")


def test_training_twice_gives_the_same_bytes(data: Path) -> None:
    graphs = [judge_graph.build(judge_training.train(judge_data.load(data)).judge) for _ in range(2)]
    assert graphs[0] == graphs[1]


def test_the_graph_computes_what_was_fitted(data: Path, tmp_path: Path) -> None:
    problems = judge_data.load(data)
    made = judge_training.train(problems)
    assert judge_training.main(["--data", str(data), "--out", str(tmp_path)]) == 0
    loaded = OnnxJudge.load(tmp_path)
    prior = np.full(len(problems.prompts), logit(0.7))
    fitted = sigmoid(made.judge.log_odds(problems.weak, prior))
    assert [loaded.weigh(one, 0.7) for one in problems.weak.examined] == pytest.approx(fitted.tolist(), abs=1e-5)


def test_folds_hold_each_problem_once_and_fits_see_no_row_of_the_fold_they_score(data: Path) -> None:
    problems = judge_data.load(data)
    folds = judge_data.folds(problems, 3)
    assert sorted(np.concatenate(folds).tolist()) == list(range(120))
    held_out = judge_training.cross_fitted(problems, 3)
    rows = np.setdiff1d(np.arange(120), folds[0])
    prior = np.full(len(folds[0]), logit(judge_training.default_prior(problems, rows)))
    again = judge_training.fit(problems, rows).log_odds(problems.weak.part(folds[0]), prior)
    assert held_out[folds[0]] == pytest.approx(again)


def test_every_piece_of_evidence_has_a_declared_weight() -> None:
    assert set(EVIDENCE_WEIGHTS) == set(EVIDENCE)


def test_the_regression_finds_the_weights_that_made_its_data() -> None:
    rng = np.random.default_rng(1)
    inputs = np.hstack([rng.normal(size=(4_000, 2)), np.ones((4_000, 1))])
    right = (rng.random(4_000) < sigmoid(inputs @ np.array([1.0, -0.5, 0.3]))).astype(float)
    found = judge_fitting.logistic(inputs, right, np.ones(4_000), np.zeros(4_000), ridge=1.0)
    assert found == pytest.approx([1.0, -0.5, 0.3], abs=0.15)


def test_missing_data_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_training.main(["--data", str(tmp_path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# --- what ships


def test_the_shipped_judge_is_the_one_of_its_manifest_and_its_card_tells_its_figures() -> None:
    manifest = json.loads((SHIPPED / "judge.json").read_text())
    assert hashlib.sha256((SHIPPED / "judge.onnx").read_bytes()).hexdigest() == manifest["sha256"]
    card = CARD.read_text()
    for name in ("auc", "auc_other_model", "apgr", "ece", "brier", "agreement_accuracy", "agreement_means_right"):
        assert f"| {manifest['held_out'][name]:.3f} |" in card, name
    for name, weight in EVIDENCE_WEIGHTS.items():
        assert f"| {name} | {weight:+.1f} |" in card, name


@pytest.mark.skipif(not SHARED.is_dir(), reason="the routing outcome sets are not here")
def test_the_shipped_judge_comes_from_the_shared_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert judge_training.main(["--data", str(SHARED), "--out", str(tmp_path)]) == 0
    figures = json.loads(capsys.readouterr().out)
    shipped = json.loads((SHIPPED / "judge.json").read_text())
    assert figures == pytest.approx(shipped["held_out"], abs=0.002)
    assert figures["apgr"] >= 0.78
    assert figures["ece"] <= 0.03
