"""Training: the pipeline on a handful of questions, and the shipped heads against the files that they came from."""

from __future__ import annotations

import hashlib
import json
import random
from pathlib import Path

import pytest

from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import SHIPPED, OnnxHeads
from farthing_classifier.domain import lexical
from farthing_models import corpus, heads, routing_data, task_seeds, train_heads
from farthing_models.routing_data import DataError

# Seconds on an idle machine; minutes on a busy one, or when the weights have to be fetched first.
pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
ENCODER_DIR = ROOT / "build" / "models" / "encoder"
SHARED = ROOT.parent / "shared" / "data" / "routing"
CARD = ROOT / "models" / "cards" / "heads-v1.md"

MODELS = (
    *routing_data.SMALL_MODELS, *routing_data.LARGE_MODELS, "codegemma-7b",
    "llama3-chatqa-1.5-8b", "llama3-chatqa-1.5-70b",
)  # fmt: skip


@pytest.fixture(scope="session")
def encoder_dir() -> Path:
    if not (ENCODER_DIR / "manifest.json").is_file():
        pytest.fail("there is no encoder in build/models/encoder: run `make models`")
    return ENCODER_DIR


@pytest.fixture
def small_data(tmp_path: Path) -> Path:
    """Outcome sets of the real form, with made-up questions."""
    rng = random.Random(1)
    nine = [
        {
            "question": f"Question {number}: how many apples cost {number * 3} dollars?",
            "task": rng.choice(["gsm8k", "trivia_qa", "mbpp", "commongen", "math", "mmlu"]),
            "scores": {model: float(rng.random() < 0.6) for model in MODELS},
        }
        for number in range(60)
    ]
    pair = [
        {"prompt": f"Which of {number} is right?\nA. x\nB. y\nAnswer:", "subject": f"subject{number % 6}"}
        | {"weak_correct": rng.random() < 0.6, "strong_correct": rng.random() < 0.9}
        for number in range(60)
    ]
    solved = [{**row, "prompt": f"Solve {row['prompt']}", "strong_response": "It is so. " * 9} for row in pair]
    for name, rows in ((routing_data.NINE, nine), (routing_data.MMLU, pair), (routing_data.GSM8K, solved)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def train(encoder_dir: Path, data: Path, out: Path, cache: Path) -> dict[str, object]:
    arguments = ["--data", str(data), "--encoder", str(encoder_dir), "--out", str(out), "--cache", str(cache)]
    assert train_heads.main(arguments) == 0
    made: dict[str, object] = json.loads((out / "heads.json").read_text())
    return made


def test_the_pipeline_makes_heads_that_the_service_takes_and_makes_them_again(
    encoder_dir: Path, small_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(task_seeds, "PER_TEMPLATE", 1)
    monkeypatch.setattr(heads, "ENSEMBLE", 1)
    first = train(encoder_dir, small_data, tmp_path / "first", tmp_path / "cache")
    second = train(encoder_dir, small_data, tmp_path / "second", tmp_path / "cache")
    assert first["sha256"] == second["sha256"]
    trained = OnnxHeads.load(tmp_path / "first")
    encoder = OnnxEncoder.load(encoder_dir, window_tokens=128, threads=1)
    scores = trained.score(encoder.encode("How many?").embedding, lexical.features("How many?"))
    assert 0.0 <= scores.complexity <= 1.0
    assert trained.info.encoder_sha256 == encoder.info.sha256


def test_missing_data_is_said_in_one_line(
    encoder_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train_heads.main(["--data", str(tmp_path), "--encoder", str(encoder_dir), "--out", str(tmp_path)]) == 1
    assert "--data names the folder" in capsys.readouterr().err


def test_a_question_that_comes_twice_is_kept_once(small_data: Path) -> None:
    path = small_data / f"{routing_data.MMLU}.jsonl"
    path.write_text(path.read_text() * 2)
    texts = [row.text for row in routing_data.load(small_data)]
    assert len(texts) == len(set(texts)) == 180


def test_written_prompts_are_the_same_each_time_and_cover_every_task() -> None:
    seeds = task_seeds.seeds(3)
    assert seeds == task_seeds.seeds(3)
    assert {seed.task for seed in seeds} == set(corpus.TASKS)
    assert not [seed.text for seed in seeds if "{topic}" in seed.text or "{text}" in seed.text]


def test_the_shipped_heads_are_whole_and_say_what_they_are() -> None:
    manifest = json.loads((SHIPPED / "heads.json").read_text())
    assert hashlib.sha256((SHIPPED / "heads.onnx").read_bytes()).hexdigest() == manifest["sha256"]
    assert manifest["lexical_features"] == list(lexical.NAMES)
    assert manifest["tasks"] == list(corpus.TASKS)
    assert set(manifest["length_basis"]) == set(corpus.TASKS)


def test_the_model_card_quotes_the_figures_of_the_shipped_heads() -> None:
    """Each figure in the card's tables stands beside its name in heads.json."""
    held_out = json.loads((SHIPPED / "heads.json").read_text())["held_out"]
    rows = [line.split("|")[1:3] for line in CARD.read_text().splitlines() if line.startswith("| `")]
    quoted = {name.strip().strip("`"): float(value) for name, value in rows}
    assert len(quoted) >= 15
    assert quoted == {name: pytest.approx(held_out[name], abs=0.0006) for name in quoted}


def test_the_shipped_heads_were_trained_on_the_shared_questions(encoder_dir: Path) -> None:
    if not SHARED.is_dir():
        pytest.skip("the routing outcome sets are not beside this checkout: see models/cards/heads-v1.md")
    try:
        rows = routing_data.load(SHARED)
    except DataError as error:
        pytest.skip(str(error))
    training = json.loads((SHIPPED / "heads.json").read_text())["training"]
    assert training["outcome_rows"] == len(rows)
    texts = [row.text for row in rows] + [seed.text for seed in task_seeds.seeds(train_heads.SEED)]
    encoder = OnnxEncoder.load(encoder_dir, window_tokens=train_heads.WINDOW_TOKENS, threads=1)
    assert training["texts_sha256"] == corpus.digest(texts, encoder.info)
