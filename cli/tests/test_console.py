"""What others wrote is shown as text: no markup, no line of its own, no command to a terminal."""

import ast
import io
import json
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import farthing_cli
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.gateway.v1 import gateway_service_pb2 as gateway_pb
from farthing_cli import ask, console, report
from farthing_cli.console import Console, Table
from farthing_cli.errors import CliError, Farthing
from farthing_cli.generation import Answer
from farthing_cli.up import table
from farthing_cli.up.parts import State, Status
from farthing_kit.errors import FarthingError

MARKUP = ["[/INST]", "[/]", "[bold]acme[/bold]", "[red]", ":smile:", r"\[x]", "[link=http://x]y[/link]", "[@click=x]"]
BREAKING = [
    "a\nb",
    "a\tb",
    "\x00",
    "a\x1b[31m",
    "a\x1b]0;x\x07",
    "a\x9b31m",
    "a\rb",
    "a\u2028b",
    "\u202egnp",
    "\ufeffx",
]
WORDS = ["می\u200cخواهم", "👩\u200d💻", "prix\u00a0net", "検索\u3000窓", "naïve", "[a](b)"]


def drawn(response: report_pb.CostResponse, heading: str = "user") -> list[str]:
    """The lines of a report."""
    screen = Console(file=io.StringIO(), width=160)
    report.show(response, heading, screen)
    assert isinstance(screen.file, io.StringIO)
    return screen.file.getvalue().rstrip("\n").split("\n")


def rows(*groups: str) -> report_pb.CostResponse:
    return report_pb.CostResponse(rows=[report_pb.CostRow(group=group, requests=1) for group in groups])


@pytest.mark.parametrize("name", [*MARKUP, *WORDS])
def test_a_name_in_a_table_is_shown_as_it_is(name: str) -> None:
    assert any(line.startswith(f"│ {name} ") for line in drawn(rows(name)))


@pytest.mark.parametrize("name", BREAKING)
def test_a_name_breaks_neither_the_table_nor_the_terminal(name: str) -> None:
    plain, odd = drawn(rows("plain", "other")), drawn(rows("plain", name))
    assert len(odd) == len(plain)
    assert all(line.isprintable() for line in odd)
    assert len({len(line) for line in odd[1:]}) == 1
    assert any(json.dumps(name)[1:-1] in line for line in odd)


@pytest.mark.parametrize("name", ["[/x]", "[bold]", "a\nb"])
def test_a_heading_and_a_title_are_shown_as_they_are(name: str) -> None:
    title, _, header = drawn(rows("x"), f"tag {name}")[:3]
    assert f"Cost by tag {json.dumps(name)[1:-1]}" in title
    assert json.dumps(name)[1:-1] in header


def test_what_a_service_says_is_shown_as_it_is() -> None:
    decision = gateway_pb.Decision(explanation="[/x] because\nof \x1b[31m")
    screen = Console(file=io.StringIO(), width=160)
    screen.print(decision.explanation)
    screen.print(Table("[/y]", title="[/z]"))
    assert isinstance(screen.file, io.StringIO)
    assert screen.file.getvalue().startswith("[/x] because\\nof \\u001b[31m\n")
    answer = Answer(decision, "", gateway_pb.Final(), 0.1, 0.2)
    assert ask.summary(answer)[0] == decision.explanation


def test_states_keep_their_colours() -> None:
    screen = Console(file=io.StringIO(), width=160, force_terminal=True, color_system="standard")
    screen.print(table.table([Status("[/x]", State.READY, note="[bold]")]))
    assert isinstance(screen.file, io.StringIO)
    assert "\x1b[32mready\x1b[0m" in screen.file.getvalue()
    assert "[bold]" in screen.file.getvalue()


def test_lines_and_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.say("a\nb\x1b[31m")
    console.complain("a\nb\udce9")
    assert capsys.readouterr() == ("a\\nb\\u001b[31m\n", "farthing: a\\nb\\udce9\n")


def test_json_of_one_line_has_no_separator_in_it_and_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    value = {"a": "".join(BREAKING) + "é👩"}
    console.say_json(value, indent=None)
    line, rest = capsys.readouterr().out.split("\n")
    assert not rest
    assert len(line.splitlines()) == 1
    assert json.loads(line) == value
    console.say_json(value)
    shown = capsys.readouterr().out
    assert "é👩" in shown
    assert json.loads(shown) == value
    assert all(line.isprintable() for line in shown.split("\n"))


class Terminal(io.StringIO):
    """Something that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_an_answer_commands_no_terminal_and_reaches_a_file_unchanged(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "one\n\ttwo \x1b]0;title\x07 é"
    for out, shown in ((Terminal(), "one\n\ttwo \\u001b]0;title\\u0007 é"), (io.StringIO(), text)):
        monkeypatch.setattr(sys, "stdout", out)
        console.stream(text)
        assert out.getvalue() == shown


def test_nothing_but_the_console_writes() -> None:
    """So that what is new is escaped too."""
    folder = Path(farthing_cli.__file__).parent
    for path in folder.rglob("*.py"):
        if path.name not in ("console.py", "__main__.py"):  # the latter has one text, its own
            assert writes(ast.parse(path.read_text())) == [], path


def writes(tree: ast.AST) -> list[str]:
    """Calls that would write past the console, and other ways to rich's own."""
    found = []
    for node in ast.walk(tree):
        text = ast.unparse(node) if isinstance(node, ast.Call | ast.ImportFrom | ast.Import) else ""
        wrong = ("print(", "click.echo(", "click.secho(", "sys.stdout.write(", "sys.stderr.write(", "Text.from_markup(")
        imports = ("from rich.console import Console", "from rich.table", "from rich.text", "from rich import")
        if text.startswith((*wrong, *imports)):
            found.append(text)
    return found


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (CliError("a\nb"), 1, "farthing: a\\nb\n"),
        (FarthingError("not now"), 1, "farthing: not now (INTERNAL)\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "farthing: /x: Permission denied\n"),
        (OSError(28, "No space left on device"), 1, "farthing: the system: No space left on device\n"),
        (KeyboardInterrupt(), 130, "\nfarthing: stopped\n"),
    ],
)
def test_every_failure_ends_in_one_line(error: BaseException, code: int, says: str) -> None:
    command = Farthing("farthing")

    @command.command()
    def fail() -> None:
        raise error

    done = CliRunner().invoke(command, ["fail"])
    assert (done.exit_code, done.output) == (code, says)


def test_a_command_that_ends_well_has_the_code_0_and_one_that_exits_has_its_own() -> None:
    command = Farthing("farthing")
    command.command("well")(lambda: None)

    @command.command("seven")
    def seven() -> None:
        raise SystemExit(7)

    assert [CliRunner().invoke(command, [word]).exit_code for word in ("well", "seven", "--help")] == [0, 7, 0]


def test_a_narrow_terminal_shows_every_digit() -> None:
    screen = Console(file=io.StringIO(), width=70)
    row = report_pb.CostRow(group="a-team-with-a-long-name", requests=1)
    row.cost.nano_units = 123_456_789
    report.show(report_pb.CostResponse(rows=[row]), "team", screen)
    assert isinstance(screen.file, io.StringIO)
    lines = [line.split("│") for line in screen.file.getvalue().split("\n") if line.startswith("│")]
    group, cost = ("".join(line[place].strip() for line in lines) for place in (1, 5))
    assert group.startswith("a-team-with-a-long-name")
    assert cost.startswith("$0.123456789")


def test_a_closed_standard_output_is_an_error_and_no_crash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    for write in (console.say, console.stream, console.say_json):
        with pytest.raises(OSError, match="closed"):
            write("x")
