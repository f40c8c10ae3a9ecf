"""Whatever is typed, in whatever option of whatever command, there is either a result or one line that names the
option and an exit code of 2. The options are found in the parser: one that is new is tried too."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from farthing_cli.arguments import Label, Moment, Number, Text, Whole
from farthing_cli.main import main

KNOWN_TYPES = (Label, Moment, Number, Text, Whole, click.Choice, click.Path, click.types.BoolParamType)
NUMBERS = ["nan", "inf", "-inf", "1e300", "1e999", "-1e300", "", "x", "1_", "0x10", "٣x", "9" * 5000]
WHOLES = [*NUMBERS, "99999999999999999999", "-99999999999999999999", "1.5", "²"]
MOMENTS = ["999999d", "9999-12-31T23:59:59-12:00", "0001-01-01", "0001-01-01T00:00:00+12:00", "nan", "", "7", "²d"]
NO_TEXTS = ["\udce9", "a\udcff\udcfeb"]  # what the bytes of Latin-1 become on the command line
NO_LABELS = [*NO_TEXTS, "a\nb", "a\x00b", "a\x1b[31m", "a\x85", "a\u2028b", "\u202eb", "x" * 5000, " ", "\u200b"]


def commands(group: click.Group, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command with the words that call it."""
    for name, command in group.commands.items():
        yield (*path, name), command
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))


COMMANDS = [((), main), *commands(main)]


def wrong_values(kind: Any) -> list[str]:
    """What must be refused wherever a value of this type is typed."""
    match kind:
        case Number():
            return NUMBERS
        case Whole():
            return WHOLES
        case Moment():
            return MOMENTS
        case Label():
            return NO_LABELS
        case Text():
            return NO_TEXTS
        case click.Choice():
            return ["nan", "\udce9", ""]
        case _:
            return []


CASES = [
    pytest.param(words, param, value, id=f"{'-'.join(words)} {param.name} {value[:20]!a}")
    for words, command in COMMANDS
    for param in command.params
    for value in wrong_values(param.type)
]


@pytest.mark.parametrize(("words", "param"), [(words, each) for words, command in COMMANDS for each in command.params])
def test_every_option_has_a_type_that_refuses(words: tuple[str, ...], param: click.Parameter) -> None:
    assert isinstance(param.type, KNOWN_TYPES), f"{' '.join(words)} {param.name}: take a type of farthing_cli.arguments"


def typed(folder: Path, words: tuple[str, ...], command: click.Command, wrong: click.Parameter, value: str) -> Result:
    """Call the command with a right value everywhere but in one place."""
    arguments = []
    for param in command.params:
        if isinstance(param, click.Argument):
            arguments.append(value if param is wrong else right_value(param, folder))
        elif param is wrong:
            arguments.insert(0, f"{max(param.opts, key=len)}={value}")
        elif param.required:
            arguments.insert(0, f"{max(param.opts, key=len)}={right_value(param, folder)}")
    # no mesh runs in this folder, and none is named: nothing could be sent
    return CliRunner().invoke(main, ["--state", str(folder / "state"), *words, *arguments])


def right_value(param: click.Parameter, folder: Path) -> str:
    """Something that the parameter takes."""
    if isinstance(param.type, click.Choice):
        return str(param.type.choices[0])
    return str(folder) if isinstance(param.type, click.Path) else "x"


@pytest.mark.parametrize(("words", "param", "value"), CASES)
def test_what_cannot_be_used_is_refused_in_one_line_that_names_the_option(
    tmp_path: Path, words: tuple[str, ...], param: click.Parameter, value: str
) -> None:
    command = dict(COMMANDS)[words]
    done = typed(tmp_path, words, command, param, value)
    assert done.exit_code == 2, done.output
    assert len(done.output.strip().split("\n")) == 1
    assert done.output.strip().isprintable()
    name = max(param.opts, key=len)
    assert name in done.output or name.upper() in done.output
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(("words", "command"), COMMANDS)
def test_every_command_says_what_it_is_for(words: tuple[str, ...], command: click.Command) -> None:
    shown = CliRunner().invoke(main, [*words, "--help"])
    assert shown.exit_code == 0
    assert command.help
    for param in command.params:
        assert not isinstance(param, click.Option) or param.help, f"{' '.join(words)} {param.name} has no help"


@pytest.mark.parametrize("kind", ["missing", "folder", "binary", "empty", "latin-1", "closed"])
def test_files_that_cannot_be_used_are_refused_in_one_line_that_names_them(tmp_path: Path, kind: str) -> None:
    path = bad_file(tmp_path, kind)
    for words in (
        ("replay", str(path)),
        ("tenants", "apply", str(path)),
        ("config", "check", "--env-file", str(path)),
        ("up", "--pools", str(path)),
    ):
        if words[0] == "config" and kind == "empty":
            continue  # no setting is no wrong setting
        if words[0] == "up" and kind not in ("missing", "folder"):
            continue  # read by inference
        done = CliRunner().invoke(main, ["--state", str(tmp_path / "state"), *words])
        assert done.exit_code == 2, done.output
        assert str(path) in done.output
        assert len(done.output.strip().split("\n")) == 1
        assert not (tmp_path / "state").exists()


def bad_file(folder: Path, kind: str) -> Path:
    path = folder / kind
    match kind:
        case "folder":
            path.mkdir()
        case "binary":
            path.write_bytes(bytes(range(256)))
        case "empty":
            path.touch()
        case "latin-1":
            path.write_bytes("FARTHING_X=é\n".encode("latin-1"))
        case "closed":
            path.symlink_to(path)  # opening it fails, to root too
    return path


def test_a_name_of_bytes_that_are_no_text_is_named_in_the_error(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["replay", os.fsdecode(bytes(tmp_path) + b"/\xe9.jsonl")])
    assert done.exit_code == 2
    assert r"\udce9.jsonl: No such file" in done.output


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("FARTHING_API_KEY", "fk_a\nb", "has a line break"),
        ("FARTHING_API_KEY", "fk_é", "not ASCII"),
        ("FARTHING_API_KEY", "fk_\udce9", "not ASCII"),
        ("FARTHING_API_KEY", "fk_" + "0" * 100_000, "has 100,003 characters"),
        ("FARTHING_GATEWAY", "http://127.0.0.1:1", "must be HOST:PORT"),
        ("FARTHING_GATEWAY", "a:1,b:2", "must be IPv4"),
        ("FARTHING_GATEWAY", "127.0.0.1:99999", "must have a port of at most 65535"),
        ("FARTHING_GATEWAY", "127.0.0.1:1,127.0.0.2:70000", "must have a port of at most 65535"),
        ("FARTHING_GATEWAY", "\udce9:1", "must be HOST:PORT"),
        ("FARTHING_MESH_SECRET_FILE", "/nowhere", "which is no file"),
    ],
)
def test_variables_that_cannot_be_used_are_named(tmp_path: Path, variable: str, value: str, says: str) -> None:
    environment = {"FARTHING_GATEWAY": "127.0.0.1:1", "FARTHING_API_KEY": "fk_1", variable: value}
    done = CliRunner(env=environment).invoke(main, ["--state", str(tmp_path / "none"), "ask", "Hello"])
    assert done.exit_code == 2, done.output
    assert variable in done.output
    assert says in done.output
    assert variable != "FARTHING_API_KEY" or "fk_" not in done.output  # not even most of a key


def test_a_log_of_a_part_that_there_is_not_is_named_with_those_there_are(tmp_path: Path) -> None:
    before = CliRunner().invoke(main, ["--state", str(tmp_path), "logs", "gateway"])
    assert (before.exit_code, before.output) == (1, "farthing: there is no log of 'gateway'; start a mesh first\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "gateway.log").touch()
    done = CliRunner().invoke(main, ["--state", str(tmp_path), "logs", "[/x]"])
    assert (done.exit_code, done.output) == (2, "farthing: there is no log of '[/x]'; there are: gateway\n")


def test_a_part_that_cannot_be_reached_is_named_with_its_address(tmp_path: Path) -> None:
    environment = {"FARTHING_GATEWAY": "127.0.0.1:1", "FARTHING_API_KEY": "fk_1"}
    done = CliRunner(env=environment).invoke(main, ["--state", str(tmp_path / "none"), "ask", "Hello"])
    assert done.exit_code == 1
    assert "cannot be reached" in done.output
    assert done.output.endswith("FARTHING_GATEWAY is 127.0.0.1:1\n")


def test_a_secret_that_is_too_short_is_refused_in_one_line(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("short")
    environment = {"FARTHING_ACCOUNTING": "127.0.0.1:1", "FARTHING_MESH_SECRET_FILE": str(secret)}
    done = CliRunner(env=environment).invoke(main, ["--state", str(tmp_path / "none"), "report"])
    assert done.exit_code == 2
    assert f"{secret}: the mesh secret has 5 bytes" in done.output


def test_keys_that_are_damaged_are_refused_and_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "secrets" / "keys.json"
    file.parent.mkdir()
    for content in ("{", "[1]", '{"acme": 5}'):
        file.write_text(content)
        done = CliRunner(env={"FARTHING_GATEWAY": "127.0.0.1:1"}).invoke(
            main, ["--state", str(tmp_path), "ask", "Hello"]
        )
        assert done.exit_code == 1
        assert f"{file} is damaged" in done.output
        assert file.read_text() == content
