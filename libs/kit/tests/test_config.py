"""Settings: one report that names everything wrong."""

from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path

import pytest

from farthing_kit import config
from farthing_kit.config import ConfigError, Secret, setting
from farthing_kit.settings import LogLevel, ServiceSettings


class Mode(Enum):
    DENY = "deny"
    ALLOW = "allow"


@dataclass(frozen=True, kw_only=True)
class Settings:
    bind: str = setting("127.0.0.1:0", doc="where")
    workers: int = setting(4, doc="how many", min=1, max=64)
    ratio: float = setting(0.5, doc="share")
    eager: bool = setting(False, doc="now?")
    folder: Path = setting(Path("state"), doc="state")
    pools: Path | None = setting(None, doc="pools file")
    window: timedelta = setting(timedelta(seconds=1), doc="window")
    beat: timedelta = setting(timedelta(seconds=1), doc="beat", min=0, max=60)
    pause_ms: int = setting(5, doc="pause")
    keep_days: int = setting(30, doc="keep")
    mode: Mode = setting(Mode.DENY, doc="fault mode", unsafe={Mode.ALLOW: "spends without a budget"})
    subjects: tuple[str, ...] = setting(("a", "b"), doc="subjects")
    ports: tuple[int, ...] = setting((), doc="ports")
    token: Secret | None = setting(None, doc="token")


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    path = tmp_path / "secret"
    path.write_text("x" * 40 + "\n")
    path.chmod(0o600)
    return path


def test_defaults_work_alone() -> None:
    assert config.load(Settings, "cache", {}) == Settings()


def test_every_type_is_read() -> None:
    env = {
        "FARTHING_CACHE_WORKERS": "1_0",
        "FARTHING_CACHE_RATIO": "0.25",
        "FARTHING_CACHE_EAGER": "Yes",
        "FARTHING_CACHE_FOLDER": "/x",
        "FARTHING_CACHE_POOLS": "",
        "FARTHING_CACHE_WINDOW": "250ms",
        "FARTHING_CACHE_MODE": "allow",
        "FARTHING_CACHE_SUBJECTS": "a.>, b.*",
        "FARTHING_CACHE_PORTS": "1,2",
    }
    read = config.load(Settings, "cache", env)
    assert (read.workers, read.ratio, read.eager, read.folder, read.pools) == (10, 0.25, True, Path("/x"), None)
    assert (read.window, read.mode, read.subjects, read.ports) == (
        timedelta(milliseconds=250),
        Mode.ALLOW,
        ("a.>", "b.*"),
        (1, 2),
    )


def test_a_services_own_variable_wins_over_the_common_one() -> None:
    env = {"FARTHING_WORKERS": "2", "FARTHING_CACHE_WORKERS": "3"}
    assert config.load(Settings, "cache", env).workers == 3
    assert config.load(Settings, "gateway", env).workers == 2


def test_one_report_names_every_bad_variable(tmp_path: Path) -> None:
    env = {
        "FARTHING_CACHE_WORKERS": "many",
        "FARTHING_RATIO": "half",
        "FARTHING_CACHE_EAGER": "maybe",
        "FARTHING_CACHE_WINDOW": "soon",
        "FARTHING_CACHE_MODE": "perhaps",
        "FARTHING_CACHE_TOKEN_FILE": str(tmp_path / "absent"),
    }
    with pytest.raises(ConfigError) as error:
        config.load(Settings, "cache", env)
    assert {problem.variable for problem in error.value.problems} == set(env)
    assert all(variable in str(error.value) for variable in env)
    assert "must be one of DENY, ALLOW" in str(error.value)


@pytest.mark.parametrize(("value", "says"), [("0", "at least 1"), ("65", "at most 64")])
def test_bounds_are_held(value: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        config.load(Settings, "cache", {"FARTHING_CACHE_WORKERS": value})


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        ("RATIO", "nan", "must be a number"),
        ("RATIO", "inf", "must be a number"),
        ("RATIO", "1e999", "must be a number"),
        ("RATIO", "1e300", "must be a number of at most 15 digits"),
        ("WORKERS", "99999999999999999999", "must be a whole number of at most 15 digits"),
        ("WORKERS", "²", "must be a whole number"),
        ("WORKERS", "9" * 5000, "must be a whole number"),
        ("WINDOW", "infs", "must be a number"),
        ("WINDOW", "nanms", "must be a number"),
        ("WINDOW", "1e300s", "must be from 0"),
        ("WINDOW", "-1s", "must be from 0"),
        ("WINDOW", "s", "must be a number"),
        ("PAUSE_MS", "999999999999999", "must be at most"),
        ("KEEP_DAYS", "3661", "must be at most 3660"),
        ("BIND", "127.0.0.1:0\r", "a control character"),
        ("BIND", "\udce9:1", "half of a surrogate pair"),
        ("FOLDER", "/state\n", "a control character"),
        ("SUBJECTS", "a,\x00", "a control character"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_raised_but_that(field: str, value: str, says: str) -> None:
    name = f"FARTHING_CACHE_{field}"
    [problem] = config.problems(Settings, "cache", {name: value})
    assert problem.variable == name
    assert says in problem.message
    assert len(str(problem)) < 200


def test_every_setting_of_a_number_refuses_what_is_no_number() -> None:
    """Of the kit; those of the services are walked in the tests of the command, which knows all of them."""
    for variable in config.variables(ServiceSettings, "cache"):
        if variable.type in ("int", "float", "timedelta"):
            for value in ("nan", "inf", "1e300", "-1e300", "nans", "infs", "1e300s"):
                found = config.problems(ServiceSettings, "cache", {variable.name: value})
                assert variable.name in {problem.variable for problem in found}


def test_a_duration_is_bounded_in_seconds() -> None:
    assert config.load(Settings, "cache", {"FARTHING_CACHE_BEAT": "1m"}).beat == timedelta(minutes=1)
    with pytest.raises(ConfigError, match="must be at most 60"):
        config.load(Settings, "cache", {"FARTHING_CACHE_BEAT": "61s"})


def test_a_required_setting_says_what_it_is_for() -> None:
    with pytest.raises(ConfigError, match="FARTHING_CACHE_MESH_SECRET_FILE: is not set; names the file"):
        config.load(ServiceSettings, "cache", {})


def test_secrets_come_from_files_and_show_nowhere(secret_file: Path) -> None:
    read = config.load(Settings, "cache", {"FARTHING_TOKEN_FILE": str(secret_file)})
    assert read.token is not None
    assert read.token.reveal() == b"x" * 40
    assert "x" * 10 not in f"{read!r} {config.shown(read)} {read.token}"
    assert config.shown(read)["token"] == "***"


def test_an_empty_secret_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(ConfigError, match="empty file"):
        config.load(Settings, "cache", {"FARTHING_TOKEN_FILE": str(tmp_path / "empty")})


def test_unknown_variables_are_named_with_the_near_match() -> None:
    classes = {"cache": Settings, "gateway": ServiceSettings}
    env = {
        "FARTHING_CACHE_WORKRES": "3",
        "FARTHING_ZEBRA": "1",
        "FARTHING_CACHE_WORKERS": "3",
        "FARTHING_WORKERS": "3",
        "FARTHING_GATEWAY_MESH_SECRET_FILE": "f",
        "FARTHING_HOME": "h",
        "PATH": "p",
    }
    found = {problem.variable: problem.message for problem in config.unknown(env, classes)}
    assert set(found) == {"FARTHING_CACHE_WORKRES", "FARTHING_ZEBRA"}
    assert "did you mean FARTHING_CACHE_WORKERS?" in found["FARTHING_CACHE_WORKRES"]


def test_unsafe_settings_are_named(secret_file: Path) -> None:
    env = {"FARTHING_TOKEN_FILE": str(secret_file), "FARTHING_CACHE_MODE": "allow"}
    assert [p.variable for p in config.unsafe(Settings, "cache", env)] == ["FARTHING_CACHE_MODE"]
    secret_file.chmod(0o644)
    env["FARTHING_CACHE_TOKEN"] = "in the environment"
    found = {p.variable: p.message for p in config.unsafe(Settings, "cache", env)}
    assert set(found) == {"FARTHING_CACHE_MODE", "FARTHING_CACHE_TOKEN_FILE", "FARTHING_CACHE_TOKEN"}
    assert "make it 600" in found["FARTHING_CACHE_TOKEN_FILE"]
    assert "in the environment" not in str([p for p in found if p == "FARTHING_CACHE_TOKEN"])


def test_debug_logs_are_unsafe(secret_file: Path) -> None:
    env = {"FARTHING_MESH_SECRET_FILE": str(secret_file), "FARTHING_LOG_LEVEL": "debug"}
    assert config.load(ServiceSettings, "cache", env).log_level is LogLevel.DEBUG
    assert [p.variable for p in config.unsafe(ServiceSettings, "cache", env)] == ["FARTHING_CACHE_LOG_LEVEL"]


def test_every_setting_of_the_kit_is_documented() -> None:
    listed = config.variables(ServiceSettings, "cache")
    assert all(variable.doc and variable.type for variable in listed)
    assert {v.name for v in listed if v.default == "(required)"} == {"FARTHING_CACHE_MESH_SECRET_FILE"}
