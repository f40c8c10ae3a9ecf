"""What the compose files promise: every part is there, limited, unprivileged, pinned, and set up with what exists."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from farthing_cli.check import SERVICES, settings_class
from farthing_kit import config
from tests.compose.files import FOLDER, ROOT, compose, dockerfile, env_file, image_environment

STORES: Final = ("redis", "redis-cache", "nats", "postgres", "triton")
ONE_SHOT: Final = "volumes"
# Their images hold no program that could ask.
READ_BY_TRITON: Final = {"FARTHING_TRITON_MODELS", "FARTHING_OTLP_HTTP"}
READ_BY_POOLS: Final = set(re.findall(r"\$\{(\w+)", (FOLDER / env_file()["POOLS_FILE"]).read_text()))
NO_HEALTH_CHECK: Final = {ONE_SHOT, "collector", "jaeger"}
MESH: Final = compose("compose.yaml")
OBSERVED: Final = compose("compose.yaml", "compose.observability.yaml")
PARTS: Final = sorted(OBSERVED["services"])
OURS: Final = sorted(SERVICES)


def part(name: str) -> dict[str, Any]:
    found: dict[str, Any] = OBSERVED["services"][name]
    return found


def environment(name: str) -> dict[str, str]:
    """What the process of a part sees."""
    own = {key: str(value) for key, value in part(name).get("environment", {}).items()}
    return {**(image_environment(part(name)["build"]["target"]) if name in OURS else {}), **own}


def networks(name: str) -> set[str]:
    return set(part(name).get("networks", ()))


def test_the_mesh_has_every_service_and_every_store() -> None:
    assert set(MESH["services"]) == {*SERVICES, *STORES, ONE_SHOT}
    assert set(OBSERVED["services"]) - set(MESH["services"]) == {"collector", "jaeger"}


# --------------------------------------------------------------------------------------------------------------- images


def images() -> list[str]:
    named = [part(name)["image"] for name in PARTS]
    arguments = [value for name in PARTS for value in part(name).get("build", {}).get("args", {}).values()]
    defaults = re.findall(r"^ARG \w+=(\S+)", dockerfile(), flags=re.MULTILINE)
    return sorted({*named, *(text for text in (*arguments, *defaults) if ":" in text)})


@pytest.mark.parametrize("image", images())
def test_an_image_is_pinned_to_a_version_and_names_no_registry(image: str) -> None:
    name, _, tag = image.rpartition(":")
    assert re.match(r"v?\d+\.\d+\.\d+|\d+\.\d+$", tag), f"{image} must name a version, not a moving tag"
    assert not re.match(r"[^/]*[.:][^/]*/|localhost/", name), f"{image} must not name a registry's host"


def test_stages_start_from_the_pinned_image_or_from_one_another() -> None:
    stages = re.findall(r"^FROM (\S+)(?: AS (\S+))?$", dockerfile(), flags=re.MULTILINE)
    names = {name for _, name in stages}
    assert {base for base, _ in stages} <= {"${PYTHON_IMAGE}", *names}


def test_packages_are_installed_by_the_locks_hashes_only() -> None:
    script = (ROOT / "deploy" / "install_locked.sh").read_text()
    assert "--require-hashes --no-deps" in script
    assert "UV_REQUIRE_BUILD_HASHES=1" in dockerfile()
    installs = re.findall(r"(?:uv pip|pip) install [^&\n]*", dockerfile())
    assert installs
    assert all("--require-hashes" in line or "--no-deps" in line for line in installs)
    assert not re.search(r"https?://|--index|--trusted-host|^ADD ", dockerfile(), flags=re.MULTILINE)


def test_the_image_runs_as_nobody_special_and_knows_its_health() -> None:
    assert re.findall(r"^USER (\d+):(\d+)$", dockerfile(), flags=re.MULTILINE) == [("10001", "10001")]
    last_words = re.search(r"^ENTRYPOINT (.*)$", dockerfile(), flags=re.MULTILINE)
    assert last_words
    assert "exec python -m" in last_words[1], "signals must reach python"
    assert "farthing_kit.health_check" in dockerfile()


@pytest.mark.parametrize("name", OURS)
def test_a_service_is_built_from_the_one_dockerfile(name: str) -> None:
    build = part(name)["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert build["dockerfile"] == "deploy/Dockerfile"
    assert build["args"]["SERVICE"] == name
    assert f"AS {build['target']}\n" in dockerfile()
    assert not {"user", "command", "entrypoint"} & set(part(name)), "the image says who runs and what"


def test_the_build_context_holds_no_secret_and_no_state() -> None:
    allowed = {line for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert allowed == {
        "!requirements.lock",
        "!requirements-gpu.lock",
        "!protos",
        "!libs/kit",
        "!services",
        "!models",
        "!deploy/Dockerfile",
        "!deploy/install_locked.sh",
        "!deploy/config/triton",
    }


# --------------------------------------------------------------------------------------------------------------- limits


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_unprivileged(name: str) -> None:
    found = part(name)
    assert found["cap_drop"] == ["ALL"]
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert found["read_only"] is True
    assert not found.get("privileged")
    if name != ONE_SHOT:
        assert "cap_add" not in found
        assert name in OURS or not re.match(r"(root|0)(:|$)", str(found["user"])), "must not be root"


@pytest.mark.parametrize("name", PARTS)
def test_a_part_has_limits(name: str) -> None:
    found = part(name)
    assert found["pids_limit"] > 0
    assert found["mem_limit"]
    if name != ONE_SHOT:
        assert found["logging"]["options"].keys() == {"max-size", "max-file"}
        assert found["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", sorted(set(PARTS) - NO_HEALTH_CHECK))
def test_a_part_has_a_health_check(name: str) -> None:
    # Services of ours have the image's.
    assert name in OURS or part(name)["healthcheck"]["test"]


def test_nothing_waits_for_the_health_of_what_has_none() -> None:
    for name in PARTS:
        for other, how in part(name).get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == ONE_SHOT else "service_healthy"
            assert how == {"condition": wanted}, f"{name} waits for {other}"
            assert other not in OURS, f"{name} must not wait for {other}: services find one another in any order"
            assert "profiles" not in part(other), f"{name} waits for {other}, which may be left out"


# ------------------------------------------------------------------------------------------------------------- networks


def test_only_the_gateway_and_operators_doors_are_published() -> None:
    ports = {name: found["ports"] for name, found in OBSERVED["services"].items() if "ports" in found}
    assert {name: [port.rpartition(":")[2] for port in found] for name, found in ports.items()} == {
        "gateway": ["8080"],
        "accounting": ["8080"],
        "jaeger": ["16686"],
    }
    assert all(port.startswith("127.0.0.1:") for found in ports.values() for port in found)


def test_only_those_with_a_published_port_are_in_a_network_that_leads_outside() -> None:
    outward = {name for name, found in MESH["networks"].items() if str(found.get("internal")).lower() != "true"}
    assert outward == {"door"}
    assert {name for name in PARTS if "door" in networks(name)} == {"gateway", "accounting", "jaeger"}


def test_stores_and_triton_are_reached_by_those_who_need_them_only() -> None:
    members = {network: {name for name in PARTS if network in networks(name)} for network in OBSERVED["networks"]}
    assert members["stores"] == {"redis", "accounting"}
    assert members["answers"] == {"redis-cache", "cache"}
    assert members["ledger"] == {"postgres", "accounting"}
    assert members["models"] == {"triton", "inference", "collector"}
    assert [networks(name) for name in ("redis", "redis-cache", "postgres", "triton")] == [
        {"stores"},
        {"answers"},
        {"ledger"},
        {"models"},
    ]


def addresses() -> Iterator[tuple[str, str, str]]:
    """Who names which host, in which variable."""
    for name in PARTS:
        for variable, value in environment(name).items():
            for host in re.findall(r"(?:^|//|/|@|,)([a-z][a-z0-9-]*):\d+", value):
                yield name, variable, host


@pytest.mark.parametrize(("name", "variable", "host"), list(addresses()))
def test_an_address_is_a_part_in_a_network_of_both(name: str, variable: str, host: str) -> None:
    assert host in PARTS, f"{variable} of {name}"
    assert networks(name) & networks(host), f"{name} cannot reach {host}"


# ------------------------------------------------------------------------------------------------------------- settings


def test_every_farthing_variable_is_read_by_a_service() -> None:
    classes = {name: settings_class(name) for name in SERVICES}
    env = {key: value for name in PARTS for key, value in environment(name).items()}
    assert config.unknown(env, classes, READ_BY_TRITON | READ_BY_POOLS) == []


@pytest.mark.parametrize("name", OURS)
def test_a_service_takes_its_settings(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("0" * 32)
    secret.chmod(0o600)
    found = {
        key: str(secret) if value.startswith("/run/secrets/") else value for key, value in environment(name).items()
    }
    assert config.problems(settings_class(name), name, found) == []
    assert config.unsafe(settings_class(name), name, found) == []


@pytest.mark.parametrize("name", OURS)
def test_a_service_calls_no_other_on_its_own_loopback(name: str, tmp_path: Path) -> None:
    """A default that is meant for a laptop is replaced: in a container, 127.0.0.1 is the container."""
    env = environment(name)
    for variable in config.variables(settings_class(name), name):
        if "127.0.0.1" in variable.default:
            assert {variable.name, variable.common_name} & set(env), f"{variable.name} must be set"


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_writes_lies_in_a_volume(name: str) -> None:
    mounts = [volume.split(":")[1] for volume in part(name).get("volumes", ())]
    for variable in config.variables(settings_class(name), name):
        if variable.field.endswith("outbox_dir"):
            folder = environment(name).get(variable.name, variable.default)
            assert any(folder.startswith(f"{mount}/") for mount in mounts), f"{variable.name} is {folder}"


# ---------------------------------------------------------------------------------------------------- secrets and state


@pytest.mark.parametrize("name", PARTS)
def test_secrets_are_files(name: str) -> None:
    for variable, value in environment(name).items():
        if re.search(r"SECRET|PASSWORD|TOKEN|PEPPER|DSN|_KEY", variable):
            assert variable.endswith("_FILE"), f"{variable} of {name} must name a file"
        if value.startswith("/run/secrets/"):
            assert value.rpartition("/")[2] in part(name)["secrets"], f"{variable} of {name}"


def test_secrets_are_made_once_and_for_their_owner(tmp_path: Path) -> None:
    script = tmp_path / "make_secrets.sh"
    script.write_text((FOLDER / "make_secrets.sh").read_text())
    subprocess.run(["sh", str(script)], check=True, capture_output=True, timeout=10)
    made = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {f"./secrets/{name}" for name in made} == {entry["file"] for entry in MESH["secrets"].values()}
    assert len(made["mesh_secret"]) >= 32
    assert made["postgres_password"] in made["postgres_dsn"]
    assert (tmp_path / "secrets").stat().st_mode & 0o777 == 0o700
    again = subprocess.run(["sh", str(script)], check=True, capture_output=True, timeout=10)
    assert again.stdout == b""
    assert made == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


def test_secrets_are_not_committed() -> None:
    assert "secrets/" in (FOLDER / ".gitignore").read_text().split()


def test_state_lies_in_volumes_that_are_declared() -> None:
    used = {
        volume.split(":")[0]
        for found in OBSERVED["services"].values()
        for volume in found.get("volumes", ())
        if not volume.startswith(".")
    }
    assert used == set(OBSERVED["volumes"])
    assert {"redis:/data", "redis-cache:/data", "nats:/data", "postgres:/var/lib/postgresql"} <= {
        volume for name in STORES for volume in part(name).get("volumes", ())
    }


def test_files_that_are_mounted_exist_and_cannot_be_written() -> None:
    for name in PARTS:
        for volume in part(name).get("volumes", ()):
            if volume.startswith("."):
                source, _, mode = volume.split(":")
                assert (FOLDER / source).exists(), f"{name} mounts {source}"
                assert mode == "ro"


def test_nats_syncs_before_it_acknowledges_and_lets_services_see_it() -> None:
    assert "/etc/farthing/nats.conf" in part("nats")["command"]
    assert re.search(r"^\s*sync_interval: always$", (ROOT / "deploy/config/nats/nats.conf").read_text(), re.MULTILINE)
    assert "8222" in part("nats")["command"]


def test_variables_of_the_env_file_are_all_used() -> None:
    text = "".join((FOLDER / name).read_text() for name in ("compose.yaml", "compose.observability.yaml"))
    for name in env_file():
        assert name.startswith("COMPOSE_") or f"${{{name}}}" in text or f"${{{name}:-" in text, f"{name} is not used"
