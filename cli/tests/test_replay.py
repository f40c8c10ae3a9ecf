"""Reading files of requests, and when each is sent."""

import json
from pathlib import Path

import pytest

from farthing_cli import replay
from farthing_cli.errors import CliError, InputError
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


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\u0085", "\x0b", "\x0c", "\x1c", "\x1d", "\x1e", "\r"])
def test_a_separator_inside_a_string_ends_no_line(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "requests.jsonl"
    asked = f"one{separator}two"
    rows = [json.dumps({"org": "acme", "prompt": text}, ensure_ascii=separator < " ") for text in (asked, "Hi")]
    path.write_bytes("\n".join(rows).encode())
    assert [each.prompt.messages[0].content for each in read(path)] == [asked, "Hi"]


def test_a_byte_order_mark_line_ends_of_windows_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"org": "acme", "prompt": "Hi"}\r\n\r\n \t\n{"org": "acme", "prompt": "Ho"}')
    assert [each.prompt.messages[0].content for each in read(path)] == ["Hi", "Ho"]


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ('"offset_ms": NaN', "NaN is no number of JSON"),
        ('"offset_ms": 1e999', "offset_ms is inf, must be a number from 0"),
        ('"offset_ms": -1', "offset_ms is -1, must be from 0"),
        ('"offset_ms": "5"', "offset_ms is '5', must be a number, without quotation marks"),
        ('"offset_ms": 1e300', "offset_ms is 1e+300, must be from 0"),
        ('"max_output_tokens": 1.5', "max_output_tokens is 1.5, must be a whole number"),
        ('"max_output_tokens": 99999999999', "must be from 1 to 2,147,483,647"),
        ('"max_output_tokens": true', "max_output_tokens is True, must be a whole number"),
        ('"max_output_tokens": ' + "9" * 5000, "is not JSON"),
        ('"feature": 5', "feature is 5, must be a string"),
        ('"feature": "a\\nb"', "feature has U+000A"),
        ('"org": 5', "org is 5, must be a string"),
        ('"org": ["a"]', "org is ['a'], must be a string"),
        ('"prompt": "\\ud800"', "prompt has half of a surrogate pair"),
        ('"prompt": null', "prompt is not there"),
        ('"expect": 5', "expect: must be a table"),
        ('"expect": {"number": Infinity}', "Infinity is no number"),
        ('"expect": {"number": 1e999}', '"number" must be a number, not Infinity'),
        ('"expect": {"number": [1]}', '"number" must be a number, not [1]'),
        ('"x": ' + "[" * 200_000, "is nested too deeply"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_its_line(tmp_path: Path, fields: str, says: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text('{"org": "acme", "prompt": "Hi"}\n{"org": "acme", "prompt": "Hi", ' + fields + "}\n")
    with pytest.raises(InputError) as refused:
        read(path)
    assert refused.value.message.startswith(f"{path}:2: ")
    assert says in refused.value.message


@pytest.mark.parametrize("line", ["5", "[]", '"x"', "null", "{", "NaN", b"\xff\xfe{".decode("latin-1")])
def test_a_line_that_is_no_object_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(f"\n{line}\n")
    with pytest.raises(InputError, match=r"requests.jsonl:2: "):
        read(path)
