"""Every regular expression of the project takes time that grows with the text, and no faster.

Each is found (regexes/found.py), attacked with texts made from its own parts (regexes/attacks.py), and its steps are
counted (regexes/steps.py). No clock is looked at: twice the text must not be much more than twice the steps.
"""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from farthing_cli import grading
from tests.regexes import found
from tests.regexes.attacks import attacks
from tests.regexes.steps import Counting, TooManySteps

SIZE = 300
# Steps for each character: few are taken to be linear, most are more than any bounded look ahead takes.
FEW_STEPS, MOST_STEPS = 10, 600
# For twice the text: linear is 2, quadratic is 4; what is bounded by some hundred characters lies between.
MOST_GROWTH = 3

# What a function puts together from what it is given, with patterns as they come out of it.
EXAMPLES = {
    ("cli/src/farthing_cli/grading.py", "f'{before}{re.escape(plain)}{after}'"): [
        rf"(?<!{grading._EDGE})aa(?!{grading._EDGE})",
        r"\+aa\+",
    ],
    ("models/src/farthing_models/pair_data.py", "f'\\\\b{out}\\\\b'"): [r"\bvery\b"],
    (
        "services/inference/src/farthing_inference/domain/markers.py",
        "f\"(?=[{firsts}])(?={'|'.join(sorted(forms))})(.)\"",
    ): [r"(?=[\[<])(?=<unused[0-9]+>|<\|im_end\|>|\[multimodal\])(.)"],
}


@cache
def every_pattern() -> dict[tuple[str | bytes, int, bool], str]:
    """Pattern, flags, whether it is only tried at the beginning of a text; and where it stands."""
    program = [sys.executable, str(Path(found.__file__))]
    rows = json.loads(subprocess.run(program, check=True, capture_output=True, text=True, timeout=100).stdout)
    places: dict[tuple[str | bytes, int, bool], str] = {}
    for row in rows:
        for pattern in _patterns(row):
            places[pattern, row["flags"], row["anchored"]] = f"{row['path']}:{row['line']}"
    return places


def _patterns(row: dict[str, Any]) -> list[str | bytes]:
    if row["pattern"] is not None:
        return [row["pattern"].encode("latin-1") if row["is_bytes"] else row["pattern"]]
    examples = EXAMPLES.get((row["path"], row["source"]))
    assert examples, f"{row['path']}:{row['line']} makes its pattern from arguments: give EXAMPLES of {row['source']!r}"
    return list(examples)


def growth(pattern: str | bytes, flags: int, anchored: bool) -> Iterator[str]:
    """The families of texts that it takes too long over."""
    counting = Counting(pattern, flags)
    shorter = dict(attacks(pattern, flags, SIZE))
    for family, text in attacks(pattern, flags, 2 * SIZE):
        try:
            twice = steps(counting, pattern, flags, text, anchored)
            if twice > FEW_STEPS * len(text):
                once = steps(counting, pattern, flags, shorter[family], anchored)
                if twice > MOST_GROWTH * once:
                    yield f"{family}: {once} steps, {twice} for twice the text"
        except TooManySteps:
            yield f"{family}: more than {MOST_STEPS} steps a character"


def steps(counting: Counting, pattern: str | bytes, flags: int, text: str, anchored: bool) -> int:
    """Counted, and compared with what `re` finds; a pattern of bytes sees the same characters as bytes."""
    counting.read(text, MOST_STEPS * len(text))
    real: Any = re.compile(pattern, flags)
    given: Any = text.encode("latin-1") if isinstance(pattern, bytes) else text
    if anchored:
        theirs = [match.end() if match else None for match in (real.match(given), real.fullmatch(given))]
        assert [counting.end_from(0), counting.end_from(0, whole=True)] == theirs, (pattern, text)
    else:
        assert counting.spans() == [match.span() for match in real.finditer(given)], (pattern, text)
    return counting.steps


@pytest.fixture(autouse=True)
def room_for_continuations() -> Iterator[None]:
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(1_000_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.timeout(300)
def test_every_regular_expression_of_the_project_is_linear() -> None:
    slow = [
        f"{place} {pattern!r}\n    {family}"
        for (pattern, flags, anchored), place in every_pattern().items()
        for family in islice(growth(pattern, flags, anchored), 1)
    ]
    assert not slow, "not linear:\n" + "\n".join(slow)


@pytest.mark.parametrize(
    "pattern", ["(a+)+b", "(a|a)*b", r"(\w+\s?)+!", r"\d+x", r"\s*\s*x", "(.*)(.*)x", "(?>(a+)+c)", r"(?=(a*)*b)"]
)
def test_a_pattern_that_is_not_linear_is_found_out(pattern: str) -> None:
    assert next(growth(pattern, 0, False))


@pytest.mark.parametrize("pattern", ["a++b", "(?>a+)", r"[^\n]{1,80}x", r"\b\w++\b", "(?:ab|cd)*+", r"[.!?]++(?=\s)"])
def test_a_linear_pattern_is_not_taken_for_another(pattern: str) -> None:
    assert not list(growth(f"x{pattern}", 0, False))


SOURCE = """
import re
_AT_THE_TOP = re.compile("a" + "b", re.I)
ALL = {"one": [re.compile(each) for each in ("c", "d")]}
MORE = list(map(re.compile, ["e"]))

def function(text, word):
    _AT_THE_TOP.fullmatch(text)
    re.sub(r"f", "", text, flags=re.M)
    return re.search(NAME, text) or re.match(rf"{word}+", text)
"""


def test_a_pattern_is_found_wherever_it_stands() -> None:
    compiled = [found.Compiled("", line, pattern, 0) for line, pattern in ((3, "ab"), (4, "c"), (4, "d"), (5, "e"))]
    rows = found.in_source(SOURCE, "file.py", {"re": re, "NAME": "g"}, compiled)
    assert {(row.line, row.pattern, row.anchored) for row in rows} == {
        (3, "ab", True),
        (4, "c", False),
        (4, "d", False),
        (5, "e", False),
        (9, "f", False),
        (10, "g", False),
        (10, None, True),
    }


@pytest.mark.parametrize("line", ["from re import compile", "import re as regexes", "import regex"])
def test_what_would_hide_a_pattern_is_refused(line: str) -> None:
    with pytest.raises(SystemExit, match="can be found"):
        list(found.in_source(line, "file.py", {}, []))


def test_each_pattern_is_attacked_in_at_least_ten_ways() -> None:
    for pattern, flags, _ in every_pattern():
        assert len(list(attacks(pattern, flags, SIZE))) >= 10
