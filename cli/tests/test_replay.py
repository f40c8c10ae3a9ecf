"""Reading files of requests, and when each is sent."""

import json
from pathlib import Path

import pytest

from farthing_cli import replay
from farthing_cli.errors import CliError
from farthing_cli.replay import Arrivals, Load


def read(path: Path, limit: int | None = None) -> list[replay.Recorded]:
    return replay.read_requests(path, replay.Reading(limit=limit))


def test_the_bundled_sample_has_enough_requests_tenants_and_repeats() -> None:
    requests = read(replay.bundled_sample())
    asked = [(each.org, each.prompt.messages[0].content) for each in requests]
    assert len(requests) >= 150
    assert len({org for org, _ in asked}) >= 3
    assert 0.2 < 1 - len(set(asked)) / len(asked) < 0.5


def test_a_line_that_is_no_request_is_named(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps({"org": "acme", "prompt": "Hi"}) + "\n" + json.dumps({"org": "acme"}) + "\n")
    with pytest.raises(CliError, match=r"requests.jsonl:2: .*prompt"):
        read(path)


@pytest.mark.parametrize("text", ["", "\n\n"])
def test_a_file_without_requests_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(text)
    with pytest.raises(CliError, match="holds no request"):
        read(path)


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(CliError, match="cannot read"):
        read(path)


def test_a_limit_takes_the_first_requests() -> None:
    assert len(read(replay.bundled_sample(), limit=7)) == 7


def due(load: Load) -> list[float]:
    return [due_s for due_s, _ in replay._schedule(read(replay.bundled_sample()), load)]


def test_recorded_arrivals_keep_their_gaps_divided_by_the_speed() -> None:
    requests = read(replay.bundled_sample())
    assert due(Load(arrivals=Arrivals.RECORDED, speed=2.0)) == [each.offset_s / 2 for each in requests]


def test_poisson_arrivals_have_the_rate_that_was_asked_for_and_repeat_with_the_seed() -> None:
    load = Load(arrivals=Arrivals.POISSON, rate_per_s=10.0, seed=3)
    times = due(load)
    assert times == due(load) == sorted(times)
    assert 0.5 < len(times) / (10.0 * times[-1]) < 2


def test_closed_arrivals_are_due_at_once() -> None:
    assert set(due(Load())) == {0.0}


def test_quantiles_are_ranks() -> None:
    durations = [n / 1000 for n in range(1, 101)]
    assert replay.quantile_ms(durations, 0.5) == 51
    assert replay.quantile_ms(durations, 0.99) == 100
    assert replay.quantile_ms([], 0.5) == 0


def test_the_bundled_graded_file_has_both_parts_of_each_kind_and_can_be_graded() -> None:
    graded = replay.bundled("mixed_graded")
    parts = [replay.read_requests(graded, replay.Reading(part=part)) for part in ("learn", "test")]
    assert [len(part) for part in parts] == [120, 120]
    kinds = [{each.prompt.tags["feature"] for each in part} for part in parts]
    assert kinds[0] == kinds[1]
    assert all(each.expected is not None for part in parts for each in part)


def test_a_line_whose_expectation_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps({"org": "acme", "prompt": "Hi", "expect": {"nmber": 3}}) + "\n")
    with pytest.raises(CliError, match=r"requests.jsonl:1: .*expect"):
        read(path)


def test_a_part_that_no_line_has_is_named(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(json.dumps({"org": "acme", "prompt": "Hi"}) + "\n")
    with pytest.raises(CliError, match="'tset'"):
        replay.read_requests(path, replay.Reading(part="tset"))
