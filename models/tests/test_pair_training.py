"""The pairs that the verifier learns from, and the nets that learn."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import cast

import numpy as np
import onnxruntime as ort
import pytest

from farthing_cache.domain import pair_features, profile
from farthing_cache.domain.veto import Veto, veto
from farthing_classifier.ports import Encoded, Encoder, EncoderInfo
from farthing_models import pair_data, pair_fitting, pair_graph, pair_reorderings, pair_training
from farthing_models.pair_data import Pair
from farthing_models.pair_embeddings import embeddings

KEY = b"a key of this test, 16 to 64 b."


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rows = [f"Which river is longer than river number {at} in the north of Europe?" for at in range(40)]
    for name, column in (
        ("llmrouter_nine_models", "question"),
        ("mmlu_mixtral_gpt4", "prompt"),
        ("gsm8k_mixtral_gpt4", "prompt"),
    ):
        (tmp_path / f"{name}.jsonl").write_text("\n".join(json.dumps({column: row}) for row in rows), "utf-8")
    return tmp_path


def test_the_same_seed_makes_the_same_pairs(data: Path) -> None:
    assert pair_data.pairs(data, 1) == pair_data.pairs(data, 1)
    assert pair_data.pairs(data, 1) != pair_data.pairs(data, 2)


def test_there_are_five_thousand_pairs_of_every_kind(data: Path) -> None:
    made = pair_data.pairs(data, 1)
    assert len(made) >= 5_000
    assert {pair.kind for pair in made} == set(pair_training.SHARES) - {"neighbour"}
    assert all(pair.same == (pair.kind in {"near", "paraphrase", "reordered"}) for pair in made)


def test_every_slot_has_words_and_every_intent_several_wordings() -> None:
    for family in pair_data.families():
        for wordings in family.intents:
            assert len(wordings) >= 2
            filled = pair_data._filling(wordings, random.Random(1))
            assert not any("{" in pair_data._filled(wording, filled) for wording in wordings)


def test_nothing_of_the_benches_is_in_the_templates() -> None:
    """Quora's pairs and fow-cache are for measuring: no module that trains names them."""
    for module in (pair_data, pair_fitting, pair_graph, pair_reorderings, pair_training):
        text = Path(module.__file__ or "").read_text("utf-8")
        assert "quora" not in text
        assert "fow" not in text


def test_traps_of_numbers_and_negations_meet_their_veto(data: Path) -> None:
    made = pair_data.pairs(data, 1)
    for kind, rules in (("number", {Veto.NUMBERS}), ("negation", {Veto.NEGATION, Veto.NUMBERS})):
        pairs = [pair for pair in made if pair.kind == kind]
        caught = [veto(profile.of(pair.a, KEY), profile.of(pair.b, KEY)) in rules for pair in pairs]
        assert sum(caught) > 0.9 * len(caught)


@pytest.mark.parametrize(
    ("text", "moved"),
    [
        (
            "What is the difference between green tea and coffee?",
            "What is the difference between coffee and green tea?",
        ),
        ("Who made it, boys or girls?", "Who made it, girls or boys?"),
        ("What is the treatment of asthma?", "What is the asthma treatment?"),
        ("How do I sort a list in Python?", "In Python, how do I sort a list?"),
        ("In Python, how do I sort a list?", "How do I sort a list in Python?"),
        ("Which laptop is best for students?", "Which is the best laptop for students?"),
    ],
)
def test_parts_are_moved_where_that_changes_nothing(text: str, moved: str) -> None:
    assert moved in {pair_reorderings.reordered(text, random.Random(seed)) for seed in range(8)}


def test_what_has_no_part_that_can_be_moved_is_left() -> None:
    for text in ("Why is the sky blue?", "He ran. Which road is the best?", "What is the least of all?"):
        assert pair_reorderings.reordered(text, random.Random(1)) is None


def test_nets_learn_and_their_graph_says_the_same() -> None:
    rng = np.random.default_rng(1)
    features = rng.normal(size=(4_000, len(pair_features.NAMES)))
    same = (features[:, 0] > 0).astype(float)
    nets = pair_fitting.fit(features, same, np.ones(4_000), 1)
    assert ((nets.logits(features) > 0) == (same > 0)).mean() > 0.9
    session = ort.InferenceSession(pair_graph.build(nets), providers=["CPUExecutionProvider"])
    (found,) = session.run(["probability"], {"features": features.astype(np.float32)})
    assert found == pytest.approx(pair_fitting.sigmoid(nets.logits(features)), abs=1e-4)


def test_platt_scaling_makes_probabilities() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=20_000)
    same = (rng.random(20_000) < pair_fitting.sigmoid(truth)).astype(float)
    slope, shift = pair_fitting.platt(3 * truth + 1, same, np.ones(20_000))
    assert slope == pytest.approx(1 / 3, abs=0.03)
    assert shift == pytest.approx(-1 / 3, abs=0.06)
    found = pair_fitting.sigmoid(slope * (3 * truth + 1) + shift)
    assert pair_training.calibration_error(found, same, np.ones(20_000)) < 0.02


class Counting:
    """An encoder that counts what it reads."""

    def __init__(self) -> None:
        self.read = 0

    @property
    def info(self) -> EncoderInfo:
        return EncoderInfo("counting", "ab" * 32, 4, 128, "CPUExecutionProvider")

    def encode(self, text: str) -> Encoded:
        self.read += 1
        return Encoded(np.full(4, len(text), np.float32), 1, truncated=False)


def test_each_text_is_read_once(tmp_path: Path) -> None:
    encoder = Counting()
    first = embeddings(["a", "bb", "a"], cast(Encoder, encoder), tmp_path)
    again = embeddings(["bb", "ccc"], cast(Encoder, encoder), tmp_path)
    assert encoder.read == 3
    assert first[:, 0].tolist() == [1, 2, 1]
    assert again[:, 0].tolist() == [2, 3]


def test_a_pair_is_weighed_by_its_kind() -> None:
    kinds = ["near"] * 4 + ["entity"]
    weights = pair_training._weights(kinds)
    assert sum(weights[:4]) == pytest.approx(pair_training.SHARES["near"])
    assert weights[4] == pytest.approx(pair_training.SHARES["entity"])
    assert Pair("a", "b", True, "near", "g").same
