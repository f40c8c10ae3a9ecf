"""What became of answers, as commands say and list it."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from farthing.classifier.v1 import classifier_service_pb2 as classifier_pb
from farthing.gateway.v1 import outcome_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_cli import heads, outcomes
from farthing_cli.arguments import Moment
from farthing_cli.main import main
from farthing_cli.models import classifier_lines
from farthing_cli.state import StateFolder
from farthing_cli.up import children
from farthing_cli.up.options import SERVERS, SERVICES, UpOptions

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-11-01", datetime(2026, 11, 1, tzinfo=UTC)),
        ("2026-11-01T12:30:00Z", datetime(2026, 11, 1, 12, 30, tzinfo=UTC)),
        ("2026-11-01T12:30:00+02:00", datetime(2026, 11, 1, 10, 30, tzinfo=UTC)),
        ("7d", NOW - timedelta(days=7)),
        ("12h", NOW - timedelta(hours=12)),
        ("30m", NOW - timedelta(minutes=30)),
    ],
)
def test_moments_are_read_as_people_write_them(text: str, meant: datetime) -> None:
    assert Moment().read(text, NOW) == meant


@pytest.mark.parametrize("text", ["yesterday", "7", "-7d", "2026-13-01", "7 d"])
def test_other_moments_are_refused_with_what_to_say(text: str) -> None:
    with pytest.raises(ValueError, match="7d, 12h, 30m"):
        Moment().read(text, NOW)


def test_an_outcome_is_one_object_in_words() -> None:
    observed = pb.ObservedOutcome(
        request_id="q_1",
        org="acme",
        tier=model_pb2.TIER_SMALL,
        model="small",
        task=model_pb2.TASK_QUESTION_ANSWERING,
        score=0.25,
        success=0.6,
        outcome=pb.OUTCOME_NOT_ACCEPTABLE,
        source=pb.OUTCOME_SOURCE_SHADOW,
        cache_level=model_pb2.CACHE_LEVEL_NONE,
    )
    observed.decide_time.FromDatetime(NOW)
    told = outcomes.as_dict(observed)
    assert (told["tier"], told["task"], told["outcome"]) == ("small", "question_answering", "not_acceptable")
    assert (told["source"], told["cache_level"], told["cascade"]) == ("shadow", "none", False)
    assert told["decide_time"] == "2026-11-23T12:00:00.000000Z"
    assert set(told) == set(pb.ObservedOutcome.DESCRIPTOR.fields_by_name)
    json.dumps(told)


def test_the_classifier_is_one_line_and_drift_a_second() -> None:
    info = classifier_pb.GetModelInfoResponse(
        model_version="heads-v2+ab", calibration_version="shipped", execution_provider="CPUExecutionProvider"
    )
    assert classifier_lines(info) == ["classifier: heads-v2+ab, calibration shipped, on CPUExecutionProvider"]
    info.drift.drifted = True
    assert len(classifier_lines(info)) == 2


def test_the_commands_on_models_are_there_and_models_alone_lists_them() -> None:
    runner = CliRunner()
    shown = runner.invoke(main, ["models", "--help"]).output
    assert "recalibrate" in shown
    assert "train-classifier" in shown
    alone = runner.invoke(main, ["--state", "/nonexistent/nowhere", "models"])
    assert "no mesh runs" in alone.output


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(name, name="farthing_models")

    monkeypatch.setattr("farthing_cli.models.importlib.import_module", missing)
    for words in (["recalibrate"], ["train-classifier", "--data", str(tmp_path)]):
        done = CliRunner().invoke(main, ["--state", str(tmp_path), "models", *words])
        assert done.exit_code == 1
        assert "farthing-models" in done.output


@pytest.mark.parametrize(("owner", "used"), [(None, True), ("heads-of-old", False)])
def test_a_mesh_starts_with_the_calibration_that_belongs_to_its_heads(
    tmp_path: Path, owner: str | None, used: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = StateFolder(tmp_path / ".farthing")
    folder.prepare()
    folder.calibration_file.write_text(json.dumps({"version": "traffic", "heads": owner or heads.version()}))
    mesh = children.LocalMesh(UpOptions(folder.path, dict.fromkeys(SERVERS + SERVICES, 0), ("echo",)), folder)
    settings = mesh._settings("classifier", "classifier")
    assert ("FARTHING_CLASSIFIER_CALIBRATION_FILE" in settings) is used
    assert ("belongs to the heads" in capsys.readouterr().err) is not used
    assert heads.calibration(folder) == (folder.calibration_file if used else heads.SHIPPED / "calibration.json")


def test_training_runs_both_parts_and_says_where_it_wrote(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[list[str]] = []

    class Training:
        SHIPPED = Path("shipped")

        @staticmethod
        def main(words: list[str]) -> int:
            asked.append(words)
            return 0

    monkeypatch.setattr("farthing_cli.models.importlib.import_module", lambda name: Training)
    words = ["models", "train-classifier", "--data", str(tmp_path), "--out", str(tmp_path / "made"), "--threads", "2"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    heads, judge = str(tmp_path / "made" / "heads"), str(tmp_path / "made" / "judge")
    assert asked == [
        ["--data", str(tmp_path), "--out", heads, "--threads", "2"],
        ["--data", str(tmp_path), "--out", judge],
    ]
    assert f"wrote {heads}" in done.output
    assert f"wrote {judge}" in done.output


def test_recalibration_without_a_mesh_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["--state", str(tmp_path / "none"), "models", "recalibrate"])
    assert done.exit_code == 1
    assert "no mesh runs" in done.output
    assert not (tmp_path / "none").exists()


def test_recalibration_from_a_file_needs_no_mesh(tmp_path: Path) -> None:
    calibration = tmp_path / "present.json"
    curve = {"scores": [-4.0, 4.0], "probabilities": [0.1, 0.9]}
    tiers = dict.fromkeys(("small", "medium", "large"), curve)
    calibration.write_text(json.dumps({"version": "shipped", "heads": "heads-v2", "tiers": tiers}))
    file = tmp_path / "outcomes.jsonl"
    row = {"tier": "small", "score": 1.0, "outcome": "not_acceptable", "model_version": "heads-v2+ab"}
    file.write_text("".join(json.dumps({**row, "request_id": f"q_{number}"}) + "\n" for number in range(100)))
    words = ["models", "recalibrate", "--outcomes", str(file), "--calibration", str(calibration), "--json"]
    done = CliRunner().invoke(main, ["--state", str(tmp_path / "state"), *words])
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["written"] == str(tmp_path / "state" / "calibration.json")
