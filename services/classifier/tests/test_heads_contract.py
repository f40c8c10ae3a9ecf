"""What every Heads promises; the fake and the trained ones both keep it."""

import numpy as np
import pytest

from farthing_classifier.adapters.onnx_heads import OnnxHeads
from farthing_classifier.domain import views
from farthing_classifier.domain.analysis import Scores, Task
from farthing_classifier.ports import Encoder, Heads
from services.classifier.tests.fakes import FakeEncoder, FakeHeads
from services.classifier.tests.strange_texts import STRANGE

Models = tuple[Encoder, Heads]


@pytest.fixture(params=["fake", "tiny", "trained"])
def models(request: pytest.FixtureRequest) -> Models:
    if request.param == "fake":
        return FakeEncoder(), FakeHeads()
    encoder = request.getfixturevalue("onnx_encoder")
    if request.param == "trained":
        return encoder, request.getfixturevalue("onnx_heads")
    return encoder, OnnxHeads.load(request.getfixturevalue("tiny_heads_dir"))


def stages(models: Models, text: str) -> tuple[Scores, Scores]:
    encoder, heads = models
    seen = views.of(text)
    first = heads.first(seen)
    return first, heads.second(encoder.encode(text).embedding, seen.whole.lexical, first)


def test_heads_name_the_encoder_that_they_belong_to(models: Models) -> None:
    encoder, heads = models
    assert heads.info.encoder_sha256 == encoder.info.sha256


@pytest.mark.parametrize("name", STRANGE)
def test_any_text_has_finite_scores_and_probabilities_in_both_stages(models: Models, name: str) -> None:
    for scores in stages(models, STRANGE[name].encode("utf-8", "replace").decode()):
        assert np.isfinite([*scores.tiers, *scores.log_tokens]).all()
        assert 0.0 <= scores.familiarity <= 1.0
        assert 0.0 <= scores.doubt <= 1.0
        assert sum(scores.tasks.values()) == pytest.approx(1.0, abs=1e-4)


def test_every_task_but_none_has_a_probability(models: Models) -> None:
    for scores in stages(models, "hello"):
        assert set(scores.tasks) == set(Task) - {Task.UNSPECIFIED}
