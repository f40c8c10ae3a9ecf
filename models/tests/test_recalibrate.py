"""The command: reads outcomes as JSON lines, writes a calibration, and says what it did."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farthing_classifier.domain.calibration import Calibration, Curve, content, parse
from farthing_classifier.domain.tiers import TIERS, Tier
from farthing_models import recalibrate
from farthing_models.recalibration import is_held_out

CURVE = Curve((-3.0, 0.0, 3.0), (0.05, 0.5, 0.95))
ROW = {
    "request_id": "q_1",
    "tier": "small",
    "score": 1.5,
    "outcome": "acceptable",
    "model_version": "heads-v2+0123456789ab",
    "decide_time": "2026-01-02T03:04:05Z",
}


@pytest.fixture
def calibration(tmp_path: Path) -> Path:
    path = tmp_path / "present.json"
    path.write_text(json.dumps(content(Calibration("shipped", "heads-v2", dict.fromkeys(TIERS, CURVE)))))
    return path


def outcomes(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "outcomes.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows(count: int, *, acceptable: int = 1, of: int = 4) -> list[dict[str, Any]]:
    """Outcomes at a score that promises more than half; `acceptable` of each `of` are."""
    words = ("acceptable", "not_acceptable")
    return [{**ROW, "request_id": f"q_{n}", "outcome": words[n % of >= acceptable]} for n in range(count)]


def run(tmp_path: Path, file: Path, calibration: Path, *options: str) -> tuple[int, Path]:
    out = tmp_path / "made" / "calibration.json"
    words = ["--outcomes", str(file), "--calibration", str(calibration), "--out", str(out), *options]
    return recalibrate.main(words), out


def test_a_better_calibration_is_written_with_its_figures(
    tmp_path: Path, calibration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out = run(tmp_path, outcomes(tmp_path, rows(400)), calibration)
    assert code == 0
    written = json.loads(out.read_text())
    assert parse(written).curves[Tier.SMALL].probability(1.5) < 0.35
    assert written["recalibration"]["worse_on_held_out"] is False
    shown = capsys.readouterr().out
    assert "Brier" in shown
    assert "medium keeps its map: 0 outcomes are fewer than 50" in shown


def test_a_worse_one_is_written_only_by_force_and_says_so(
    tmp_path: Path, calibration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    against = [
        {**row, "outcome": "not_acceptable" if is_held_out(str(row["request_id"])) else "acceptable"}
        for row in rows(200)
    ]
    file = outcomes(tmp_path, against)
    code, out = run(tmp_path, file, calibration)
    assert code == recalibrate.NOTHING_WRITTEN
    assert not out.exists()
    assert "worse" in capsys.readouterr().out
    code, out = run(tmp_path, file, calibration, "--force")
    assert code == 0
    assert json.loads(out.read_text())["recalibration"]["worse_on_held_out"] is True
    assert "WORSE" in capsys.readouterr().out


def test_too_few_outcomes_change_nothing(tmp_path: Path, calibration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out = run(tmp_path, outcomes(tmp_path, rows(49)), calibration, "--json")
    assert code == recalibrate.NOTHING_WRITTEN
    assert not out.exists()
    assert json.loads(capsys.readouterr().out)["written"] is None


def test_only_requests_since_then_count(tmp_path: Path, calibration: Path, capsys: pytest.CaptureFixture[str]) -> None:
    older = [
        {**row, "request_id": f"old_{row['request_id']}", "decide_time": "2025-01-01T00:00:00Z"} for row in rows(99)
    ]
    file = outcomes(tmp_path, [*rows(60), *older])
    assert run(tmp_path, file, calibration, "--since", "2026-01-01", "--json")[0] == 0
    assert json.loads(capsys.readouterr().out)["tiers"]["small"]["outcomes"] == 60


def test_the_names_of_the_contract_are_read_too(tmp_path: Path, calibration: Path) -> None:
    named = [{**row, "tier": "TIER_SMALL", "outcome": "OUTCOME_" + row["outcome"].upper()} for row in rows(100)]
    assert run(tmp_path, outcomes(tmp_path, named), calibration)[0] == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "is not JSON"),
        ("[]", "is not an object"),
        (json.dumps({**ROW, "tier": "huge"}), "tier must be one of small, medium, large"),
        ("[" * 100_000, "is not JSON"),
        (json.dumps({**ROW, "score": None}), "score is None, must be a number from"),
        (json.dumps({**ROW, "score": float("nan")}), "score is nan, must be a number from"),
        (json.dumps({**ROW, "score": "1"}), "score must be a number, without quotation marks"),
        (json.dumps({**ROW, "score": 10**400}), "must be a number from"),
        (json.dumps({**ROW, "outcome": True}), "outcome must be a text"),
        (json.dumps({**ROW, "request_id": ""}), "request_id must be a text"),
        (json.dumps({**ROW, "cascade": "no"}), "cascade must be true or false"),
        (json.dumps({key: value for key, value in ROW.items() if key != "model_version"}), "model_version must be"),
    ],
)
def test_a_bad_line_is_named_with_its_number(
    tmp_path: Path, calibration: Path, line: str, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(f"{json.dumps(ROW)}\n\n{line}\n")
    code, out = run(tmp_path, file, calibration)
    assert code == recalibrate.USAGE
    assert not out.exists()
    told = capsys.readouterr().err.strip()
    assert f"{file}:3: " in told
    assert says in told
    assert "\n" not in told


def test_a_byte_order_mark_and_separators_inside_strings_do_no_harm(tmp_path: Path, calibration: Path) -> None:
    file = tmp_path / "marked.jsonl"
    named = [{**row, "request_id": f"{row['request_id']}\u2028\u0085"} for row in rows(100)]
    lines = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in named)
    file.write_bytes(b"\xef\xbb\xbf" + lines.encode())
    assert run(tmp_path, file, calibration)[0] == 0


def test_files_that_cannot_be_read_are_named(
    tmp_path: Path, calibration: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path, tmp_path / "nowhere.jsonl", calibration)[0] == recalibrate.USAGE
    assert "nowhere.jsonl" in capsys.readouterr().err
    broken = tmp_path / "broken.json"
    for text in ("", "[]", '{"version": "x"}', "\x00", "[" * 100_000):
        broken.write_text(text)
        assert run(tmp_path, outcomes(tmp_path, rows(60)), broken)[0] == recalibrate.USAGE
        assert "broken.json" in capsys.readouterr().err
