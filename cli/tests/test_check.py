"""Settings as `farthing config check` sees them: in the environment, and in files as compose reads them."""

from pathlib import Path

import pytest

from farthing_cli import check, env_file
from farthing_cli.errors import InputError
from farthing_kit import config

NO_NUMBERS = ("nan", "inf", "-inf", "1e999", "1e300", "-1e300", "nans", "infs", "1e300s", "nanms", "²")


@pytest.mark.parametrize("service", check.SERVICES)
def test_every_setting_refuses_what_is_no_value_of_it(service: str) -> None:
    cls = check.settings_class(service)
    for variable in config.variables(cls, service):
        numeric = variable.type in ("int", "float", "timedelta")
        for value in NO_NUMBERS if numeric else ("a\nb\udce9", "\x00"):
            found = {
                problem.variable: problem.kind for problem in config.problems(cls, service, {variable.name: value})
            }
            assert found.get(variable.name) == "invalid", (variable, value)


def test_a_setting_that_is_no_number_is_a_finding() -> None:
    [finding] = check.findings({"FARTHING_GATEWAY_TRACE_RATIO": "nan"})
    assert finding == "invalid: FARTHING_GATEWAY_TRACE_RATIO: is 'nan', must be a number of at most 15 digits"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("FARTHING_GATEWAY", "http://h:1", "must be HOST:PORT"),
        ("FARTHING_CACHE", "a:1,b:2", "must be IPv4"),
        ("FARTHING_API_KEY", "fk_é", "holds no API key"),
        ("FARTHING_REDIS_URL", "redis://[h", "is no address of a Redis"),
    ],
)
def test_what_the_command_itself_reads_is_checked_too(name: str, value: str, says: str) -> None:
    [finding] = check.findings({name: value})
    assert finding.startswith(f"invalid: {name}: ")
    assert says in finding
    assert "fk_" not in finding


def read(folder: Path, content: str | bytes) -> dict[str, str]:
    path = folder / "mesh.env"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return env_file.read(path)


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("A=1", "1"),
        (" A = 1 ", "1"),
        ("export A=1", "1"),
        ("export\tA=1", "1"),
        ("A=1 # a comment", "1"),
        ("A=1\t#c", "1"),
        ("A=1#2", "1#2"),
        ("A= # a comment", ""),
        ("A=", ""),
        ("A=#", ""),
        ("A='1 # 2'", "1 # 2"),
        ('A="1 # 2" # 3', "1 # 2"),
        ("A='$x \\n'", "$x \\n"),
        (r'A="\"1\"\t\$x\\"', '"1"\t$x\\'),
        ('A="1\n2"', "1\n2"),
        ("A=it's", "it's"),
        ("A=a=b", "a=b"),
        ("A=redis://h:1/0?x=1&y", "redis://h:1/0?x=1&y"),
        ("A=1\r", "1"),
        ("A=0\nA=1", "1"),
    ],
)
def test_lines_are_read_as_compose_reads_them(tmp_path: Path, line: str, value: str) -> None:
    assert read(tmp_path, f"# first\n\n{line}\nB=last") == {"A": value, "B": "last"}


def test_a_byte_order_mark_hides_no_line(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbfA=1\r\nB=2\r\n") == {"A": "1", "B": "2"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("A=1\nB='2\nC=3", ":2: B has an opening quotation mark ' and no closing one"),
        ('A="1\\"', ":1: A has an opening"),
        ("A='1'2", ":1: A has '2' behind its closing quotation mark"),
        ("A", ":1: 'A' is not NAME=VALUE"),
        ("export A", "'export A' is not NAME=VALUE"),
        ("=1", "is not NAME=VALUE"),
        ("A B=1", "is not NAME=VALUE"),
        ("A-B=1", "is not NAME=VALUE"),
        ("A\u2028=1", "is not NAME=VALUE"),
        ('A="1\n2"\nB', ":3: 'B' is not"),
        ("A=$HOST:1", "A has a $, which compose fills in"),
        ('A="${HOST}"', "A has a $, which compose fills in"),
    ],
)
def test_a_line_that_compose_would_read_otherwise_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, text)
    assert says in refused.value.message


def test_the_file_that_ships_can_be_read() -> None:
    path = Path(check.__file__).parents[3] / "deploy" / "compose" / ".env"
    assert env_file.read(path)["GATEWAY_PORT"] == "50051"
