"""What every Heads promises; the fake and the trained ones both keep it."""

import numpy as np
import pytest

from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import OnnxHeads
from farthing_classifier.domain import lexical
from farthing_classifier.domain.analysis import Scores, Task
from farthing_classifier.ports import Encoder, Heads
from services.classifier.tests.fakes import FakeEncoder, FakeHeads
from services.classifier.tests.strange_texts import STRANGE

Models = tuple[Encoder, Heads]


@pytest.fixture(params=["fake", "onnx"])
def models(request: pytest.FixtureRequest) -> Models:
    if request.param == "fake":
        return FakeEncoder(), FakeHeads()
    return request.getfixturevalue("onnx_encoder"), request.getfixturevalue("onnx_heads")


def score(models: Models, text: str) -> Scores:
    encoder, heads = models
    return heads.score(encoder.encode(text).embedding, lexical.features(text))


def test_heads_name_the_encoder_that_they_belong_to(models: Models) -> None:
    encoder, heads = models
    assert heads.info.encoder_sha256 == encoder.info.sha256


@pytest.mark.parametrize("name", STRANGE)
def test_scores_are_probabilities_for_any_text(models: Models, name: str) -> None:
    scores = score(models, STRANGE[name].encode("utf-8", "replace").decode())
    assert 0.0 <= scores.complexity <= 1.0
    assert 0.0 <= scores.familiarity <= 1.0
    assert sum(scores.tasks.values()) == pytest.approx(1.0, abs=1e-4)
    assert np.isfinite([scores.log_p50_tokens, scores.log_p90_tokens]).all()


def test_every_task_but_none_has_a_probability(models: Models) -> None:
    assert set(score(models, "hello").tasks) == set(Task) - {Task.UNSPECIFIED}


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
def test_the_trained_heads_know_plain_cases(
    onnx_encoder: OnnxEncoder, onnx_heads: OnnxHeads, text: str, task: Task
) -> None:
    tasks = score((onnx_encoder, onnx_heads), text).tasks
    assert max(tasks, key=lambda kind: tasks[kind]) is task


def test_the_trained_heads_find_a_greeting_easier_than_a_hard_problem(
    onnx_encoder: OnnxEncoder, onnx_heads: OnnxHeads
) -> None:
    models = (onnx_encoder, onnx_heads)
    hard = "Let $f(x) = x^3 - 3x + 1$. Find the sum of the squares of the real roots of $f(f(x)) = 0$."
    assert score(models, "hello!").complexity + 0.2 < score(models, hard).complexity
