"""What every Encoder promises; the fake and the real one both keep it."""

from pathlib import Path

import numpy as np
import pytest

from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.ports import Encoder
from services.classifier.tests.fakes import FakeEncoder
from services.classifier.tests.strange_texts import STRANGE


@pytest.fixture(params=["fake", "onnx"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    if request.param == "fake":
        return FakeEncoder()
    real: OnnxEncoder = request.getfixturevalue("onnx_encoder")
    return real


def test_an_embedding_is_a_unit_vector_of_the_promised_length(encoder: Encoder) -> None:
    embedding = encoder.encode("What is the capital of France?").embedding
    assert embedding.shape == (encoder.info.dimension,)
    assert embedding.dtype == np.float32
    assert np.linalg.norm(embedding) == pytest.approx(1.0, abs=1e-5)


def test_the_same_text_has_the_same_embedding(encoder: Encoder) -> None:
    first, second = encoder.encode("a cup of tea"), encoder.encode("a cup of tea")
    np.testing.assert_array_equal(first.embedding, second.embedding)


def test_texts_alike_are_nearer_than_texts_apart(encoder: Encoder) -> None:
    asked = encoder.encode("how do I bake bread at home").embedding
    alike = encoder.encode("how do I bake good bread at home").embedding
    apart = encoder.encode("stock prices fell sharply yesterday").embedding
    assert asked @ alike > asked @ apart + 0.2


def test_tokens_are_counted_before_truncation(encoder: Encoder) -> None:
    encoded = encoder.encode("river " * 1_000)
    assert encoded.prompt_tokens == pytest.approx(1_000, abs=2)
    assert encoded.truncated


def test_tokens_of_a_very_long_text_are_estimated(encoder: Encoder) -> None:
    assert encoder.encode("river " * 100_000).prompt_tokens == pytest.approx(100_000, rel=0.01)


def test_a_text_within_the_window_is_not_truncated(encoder: Encoder) -> None:
    assert not encoder.encode("a short text").truncated


def test_the_end_of_a_long_text_is_read(encoder: Encoder) -> None:
    padding = "river " * 20_000
    first = encoder.encode(padding + "what is the total cost of the apples in dollars")
    second = encoder.encode(padding + "write a poem about the autumn moon over the hills")
    assert first.embedding @ second.embedding < 0.999


@pytest.mark.parametrize("name", STRANGE)
def test_strange_texts_are_answered(encoder: Encoder, name: str) -> None:
    text = STRANGE[name].encode("utf-8", "replace").decode()
    encoded = encoder.encode(text)
    assert np.linalg.norm(encoded.embedding) == pytest.approx(1.0, abs=1e-4)
    assert encoded.prompt_tokens >= 0


def test_an_embedding_does_not_depend_on_what_is_read_with_it_nor_on_how_many_threads_work(encoder: Encoder) -> None:
    texts = ["a cup of tea", "Solve $x^2 + 3x = 5$ for x, and show each step of the solution.", "river " * 300]
    for text, reading in zip(texts, encoder.read(texts), strict=True):
        alone = encoder.encode(text)
        for lonely in (True, False):
            np.testing.assert_array_equal(encoder.embed(reading, alone=lonely).embedding, alone.embedding)
        assert reading.prompt_tokens == alone.prompt_tokens


def test_threads_make_no_difference_to_the_bit(encoder_dir: Path, onnx_encoder: OnnxEncoder) -> None:
    text = "Explain how a steam engine turns heat into motion, step by step. " * 6
    wide = OnnxEncoder.load(encoder_dir, window_tokens=128, threads=2)
    np.testing.assert_array_equal(wide.encode(text).embedding, onnx_encoder.encode(text).embedding)
