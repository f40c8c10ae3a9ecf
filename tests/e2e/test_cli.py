"""The command as its users have it: started, asked, watched and stopped from a shell."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FARTHING = [sys.executable, "-m", "farthing_cli"]
START_S = 120


def farthing(
    state: Path, *words: str, timeout_s: float = 60, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    command = [*FARTHING, "--state", str(state), *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=timeout_s, check=False, env={**os.environ, **(env or {})}
    )


@pytest.fixture(scope="module")
def state(servers_dir: Path) -> Iterator[Path]:
    """The state folder of a mesh that runs in the background."""
    folder = servers_dir / "detached"
    up = farthing(folder, "up", "--detach", "--port", "gateway=0", "--models", "echo", timeout_s=START_S)
    assert up.returncode == 0, up.stderr
    yield folder
    down = farthing(folder, "down", timeout_s=START_S)
    assert down.returncode == 0, down.stderr
    assert not (folder / "mesh.json").exists()


def test_ask_streams_and_ends_with_one_line_on_what_it_took(state: Path) -> None:
    asked = farthing(state, "ask", "repeat these words", "--model", "echo", "--max-tokens", "8")
    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.strip().splitlines()
    assert lines[0] == "repeat these words"
    for part in ("cache none", "echo", "pool cpu-local", "tokens", "cost $", "saved", "q_"):
        assert part in lines[-1]


def test_ask_as_json_is_one_object(state: Path) -> None:
    words = ("ask", "some json please", "--model", "echo", "--json")
    first, second = (json.loads(farthing(state, *words).stdout) for _ in range(2))
    assert first["text"] == "some json please"
    assert first["cost_nano_usd"] > 0
    assert (second["cache_level"], second["cost_nano_usd"]) == ("near", 0)


def test_status_names_every_part_and_its_state(state: Path) -> None:
    status = farthing(state, "status", env={"COLUMNS": "200"})
    assert status.returncode == 0, status.stderr
    assert status.stdout.count("ready") >= 11


def test_logs_show_what_a_service_wrote(state: Path) -> None:
    assert '"ready"' in farthing(state, "logs", "gateway").stdout
    unknown = farthing(state, "logs", "nobody")
    assert unknown.returncode == 2
    assert "there are: accounting" in unknown.stderr


def test_replay_counts_what_came_back(state: Path) -> None:
    replayed = farthing(state, "replay", "--limit", "40", "--model", "echo", "--concurrency", "8", "--json")
    assert replayed.returncode == 0, replayed.stderr
    outcome = json.loads(replayed.stdout)
    assert outcome["requests"] == 40
    assert outcome["failures"] == {}


def test_report_and_verify_read_the_ledger(state: Path) -> None:
    farthing(state, "ask", "book this", "--model", "echo")
    report = json.loads(farthing(state, "report", "--by", "tier", "--json").stdout)
    assert sum(row["cost_nano_usd"] for row in report["rows"]) == report["total"]["cost_nano_usd"]
    verified = farthing(state, "verify")
    assert verified.returncode == 0, verified.stdout
    assert "the books add up" in verified.stdout


def test_trace_draws_the_request(state: Path) -> None:
    request_id = json.loads(farthing(state, "ask", "trace me", "--model", "echo", "--json").stdout)["request_id"]
    drawn = farthing(state, "trace", request_id, env={"COLUMNS": "200"})
    assert drawn.returncode == 0, drawn.stderr
    for service in ("gateway", "scheduler", "inference"):
        assert service in drawn.stdout


def test_what_dies_is_started_again(state: Path) -> None:
    gateway = next(each for each in json.loads((state / "status.json").read_text()) if each["name"] == "classifier")
    os.kill(gateway["pid"], signal.SIGKILL)
    asked = farthing(state, "ask", "still there", "--model", "echo", "--no-cache")
    assert asked.returncode == 0, asked.stderr


def test_a_second_mesh_in_the_same_folder_is_refused_in_one_line(state: Path) -> None:
    second = farthing(state, "up", "--port", "gateway=0")
    assert second.returncode == 1
    assert second.stderr.strip().startswith("farthing: a mesh already runs in")
    assert len(second.stderr.strip().splitlines()) == 1


def test_a_taken_port_is_named_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        up = farthing(tmp_path / "s", "up", "--port", f"gateway={port}")
    assert up.returncode == 1
    assert f"port {port} for gateway is taken" in up.stderr
    assert len(up.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ask", "hello"), "farthing up"),
        (("report",), "farthing up"),
        (("status",), "farthing up"),
        (("down",), "farthing up"),
        (("trace", "q_1"), "check the id"),
    ],
)
def test_without_a_mesh_one_line_says_what_to_do(tmp_path: Path, words: tuple[str, ...], says: str) -> None:
    done = farthing(tmp_path / "empty", *words)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("up", "--port", "gateway=http"), "is not a port"),
        (("up", "--port", "gatewya=1"), "there is no part"),
        (("replay", "/nowhere.jsonl"), "cannot read"),
        (("ask", "hello", "--max-tokens", "-3"), "--max-tokens is '-3', must be from 1"),
        (("ask", "hello", "--org", b"\xe9"), "--org has U+DCE9"),
        (("ask", b"\xe9"), "is not UTF-8"),
    ],
)
def test_wrong_use_gets_one_line_that_says_what_to_do(
    tmp_path: Path, words: tuple[str | bytes, ...], says: str
) -> None:
    done = farthing(tmp_path / "empty", *map(os.fsdecode, words))
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("ask", "   ", "--model", "echo"), "EMPTY_PROMPT"),
        (("ask", "hello", "--model", "gpt-9"), "UNKNOWN_MODEL"),
        (("ask", "hello", "--model", "echo", "--max-tokens", "1000000"), "INVALID_FIELD"),
        (("ask", "hello", "--model", "echo", "--timeout", "0.001"), "DEADLINE"),
    ],
)
def test_what_the_mesh_refuses_is_one_line_with_its_reason(state: Path, words: tuple[str, ...], says: str) -> None:
    done = farthing(state, *words)
    assert done.returncode == 1
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_tenant_without_a_key_here_is_named_before_anything_is_sent(state: Path) -> None:
    done = farthing(state, "ask", "hello", "--org", "nobody")
    assert done.returncode == 2
    assert "no key of 'nobody' here; there are keys of abacus" in done.stderr


def test_every_key_of_a_tenants_file_is_shown_and_works_and_a_budget_that_left_it_is_named(
    state: Path, tmp_path: Path
) -> None:
    file = tmp_path / "tenants.toml"
    keys = "".join(f'[[tenant.key]]\nteam = "team-{number}"\n' for number in range(3))
    budget = '[[tenant.budget]]\nscope = "team:team-0"\nlimit_usd = "0"\n'
    file.write_text(f'[[tenant]]\norg = "three-keys"\n{keys}{budget}')
    shown = [line.split() for line in farthing(state, "tenants", "apply", str(file)).stdout.splitlines()]
    assert [(org, team) for org, _, team in shown] == [("three-keys", f"team=team-{number}") for number in range(3)]
    words = ("ask", "hello", "--model", "echo", "--no-cache")
    codes = [farthing(state, *words, env={"FARTHING_API_KEY": key}).returncode for _, key, _ in shown]
    assert codes == [1, 0, 0]  # the first has no money

    file.write_text(f'[[tenant]]\norg = "three-keys"\n{keys}')
    kept = farthing(state, "tenants", "apply", str(file))
    assert (kept.returncode, kept.stdout) == (0, "")
    assert "the budget team:team-0 a month: $0.00 is not in the file and still holds" in kept.stderr
    assert farthing(state, *words, env={"FARTHING_API_KEY": shown[0][1]}).returncode == 1
    assert "lifted the budget team:team-0" in farthing(state, "tenants", "apply", "--prune", str(file)).stderr
    assert farthing(state, *words, env={"FARTHING_API_KEY": shown[0][1]}).returncode == 0

    listed = farthing(state, "keys", "list", "three-keys").stdout
    key_id = next(line.split()[1] for line in listed.splitlines() if "team-1" in line)
    assert not any(key in listed for _, key, _ in shown)
    assert farthing(state, "keys", "revoke", key_id).returncode == 0
    assert "KEY_REVOKED" in farthing(state, *words, env={"FARTHING_API_KEY": shown[1][1]}).stderr
    assert "was revoked" in farthing(state, "tenants", "apply", str(file)).stderr
    assert not [log for log in (state / "logs").iterdir() if any(key in log.read_text() for _, key, _ in shown)]


def test_users_with_odd_names_are_booked_and_shown_by_them(state: Path) -> None:
    users = ["[/INST]", "[bold]acme[/bold] :smile:", "می\u200cخواهم 👩\u200d💻", r"a\[x]"]
    for user in users:
        key = farthing(state, "keys", "create", "odd-names", "--user", user).stdout.split()[1]
        asked = farthing(state, "ask", f"hello {user}", "--model", "echo", env={"FARTHING_API_KEY": key})
        assert asked.returncode == 0, asked.stderr
    booked: set[str] = set()
    while not booked.issuperset(users):  # the timeout of the test ends it
        rows = json.loads(farthing(state, "report", "--by", "user", "--json").stdout)["rows"]
        booked = {row["group"] for row in rows}
    shown = farthing(state, "report", "--by", "user")
    assert shown.returncode == 0, shown.stderr
    for user in users:
        assert any(line.startswith(f"│ {user} ") for line in shown.stdout.splitlines()), shown.stdout
    assert farthing(state, "report", "--tag", "[/x]").returncode == 0


def test_an_unknown_key_is_refused(state: Path) -> None:
    done = farthing(state, "ask", "hello", env={"FARTHING_API_KEY": "fk_nobody_nothing"})
    assert done.returncode == 1
    assert "KEY_INVALID" in done.stderr


def test_config_check_names_unknown_wrong_and_unsafe_settings(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("x" * 64)
    secret.chmod(0o644)
    settings = tmp_path / "mesh.env"
    settings.write_text(
        f"FARTHING_CACHE_REDIS_URI=redis://h:1\nFARTHING_GATEWAY_MAX_CONCURRENT=many\nFARTHING_MESH_SECRET_FILE={secret}\n"
    )
    done = farthing(tmp_path, "config", "check", "--env-file", str(settings))
    assert done.returncode == 1
    for line in ("did you mean FARTHING_CACHE_REDIS_URL", "must be a whole number", "everyone can open"):
        assert line in done.stdout


def test_ctrl_c_leaves_no_process_behind(servers_dir: Path) -> None:
    folder = servers_dir / "interrupted"
    command = [*FARTHING, "--state", str(folder), "up", "--port", "gateway=0", "--models", "echo"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as up:
        assert up.stdout is not None
        shown = ""
        while "Ctrl-C" not in shown:
            line = up.stdout.readline()
            assert line, f"it ended before it was ready: {shown}"
            shown += line
        pids = [each["pid"] for each in json.loads((folder / "status.json").read_text())]
        up.send_signal(signal.SIGINT)
        up.communicate(timeout=START_S)
    assert all(pids)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
