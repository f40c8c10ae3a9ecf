"""The heads that ship with the service know plain cases; how good they are is measured in bench/routing."""

from __future__ import annotations

import json
from itertools import pairwise

import pytest

from farthing_classifier.adapters import calibration_file
from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import SHIPPED, OnnxHeads
from farthing_classifier.domain import ngrams, views
from farthing_classifier.domain.analysis import Scores, Task
from farthing_classifier.domain.calibration import Calibration

MAX_BYTES = 6 * 1024 * 1024
HARD = "Let $f(x) = x^3 - 3x + 1$. Find the sum of the squares of the real roots of $f(f(x)) = 0$."


@pytest.fixture(scope="module")
def calibration(onnx_heads: OnnxHeads) -> Calibration:
    return calibration_file.load(SHIPPED / calibration_file.CALIBRATION_FILE, onnx_heads.info.version)


def judged(encoder: OnnxEncoder, heads: OnnxHeads, text: str) -> tuple[Scores, Scores]:
    seen = views.of(text)
    first = heads.first(seen)
    return first, heads.second(encoder.encode(text).embedding, seen.whole.lexical, first)


def test_they_belong_to_the_encoder_that_is_made_here(onnx_encoder: OnnxEncoder, onnx_heads: OnnxHeads) -> None:
    assert onnx_heads.info.encoder_sha256 == onnx_encoder.info.sha256


def test_they_stay_small() -> None:
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < MAX_BYTES


def test_their_window_is_the_one_that_the_service_takes_by_default() -> None:
    assert json.loads((SHIPPED / "heads.json").read_text())["window_tokens"] == 128


@pytest.mark.parametrize(
    ("text", "task"),
    [
        ("hello, how are you today?", Task.CHAT),
        ("Write a Python function that sorts a list of integers.", Task.CODE),
        ("A shop sells 12 apples for 3 dollars. How much do 30 apples cost?", Task.MATHS),
        ("Translate this sentence into Spanish: the house is red.", Task.TRANSLATION),
        ("Write a poem about the sea at night.", Task.CREATIVE),
        ("Summarize the following article: The council met on Monday and agreed on a new park.", Task.SUMMARY),
        ("who won the world cup in 1998", Task.QUESTION_ANSWERING),
    ],
)
def test_they_know_plain_kinds_of_work(onnx_encoder: OnnxEncoder, onnx_heads: OnnxHeads, text: str, task: Task) -> None:
    tasks = judged(onnx_encoder, onnx_heads, text)[1].tasks
    assert max(tasks, key=lambda kind: tasks[kind]) is task


def test_a_small_model_does_better_at_a_greeting_than_at_a_hard_problem(
    onnx_encoder: OnnxEncoder, onnx_heads: OnnxHeads, calibration: Calibration
) -> None:
    easy, hard = (
        calibration.successes(judged(onnx_encoder, onnx_heads, text)[1].tiers)[0] for text in ("hello!", HARD)
    )
    assert hard + 0.1 < easy


@pytest.mark.parametrize("text", ["hello!", HARD, "who won the world cup in 1998", "x" * 50_000])
def test_one_calibration_serves_both_stages(
    onnx_encoder: OnnxEncoder, onnx_heads: OnnxHeads, calibration: Calibration, text: str
) -> None:
    for scores in judged(onnx_encoder, onnx_heads, text):
        successes = calibration.successes(scores.tiers)
        assert all(before <= after for before, after in pairwise(successes))
        assert 0.0 <= successes[0] <= successes[-1] <= 1.0


@pytest.mark.parametrize("text", ["What is the capital of France?", HARD])
def test_case_white_space_and_courtesies_make_no_difference_to_the_n_grams(text: str) -> None:
    assert ngrams.buckets(f"  Hi there!  {text.upper()}   Thanks!") == ngrams.buckets(text)
