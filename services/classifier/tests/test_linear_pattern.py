"""A linear pattern means what it means to `re`, and its work grows with the text, never faster."""

import re
import sys
from collections.abc import Callable
from types import FrameType

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from farthing_classifier.domain import injection
from farthing_classifier.domain.linear_pattern import LinearPattern

_LEAVES = st.sampled_from(
    ["a", "b", "ab", r"\s", r"\W", r"\d", "[ab]", "[^a]", ".", r"\b", "(?=a)", r"(?!b|\Z)", "[a-c!]"]
)


def _larger(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    group = parts.map(lambda part: f"(?:{part})")
    repeated = st.tuples(group, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "{2,}"])).map("".join)
    several = st.lists(parts, min_size=2, max_size=3)
    return repeated | several.map("".join) | several.map(lambda ways: f"(?:{'|'.join(ways)})")


PATTERNS = st.recursive(_LEAVES, _larger, max_leaves=8)
TEXTS = st.text(st.sampled_from("abcAB 1!éİ"), max_size=9)


@given(PATTERNS, TEXTS)
@example("(?:ab?)*", "ABAB")
@example("(?:a*)*b", "aaa")
@example(r"(?:a(?:\sa)*)+", "a a aa a")
def test_a_pattern_means_what_it_means_to_re(pattern: str, text: str) -> None:
    theirs = re.compile(pattern, re.IGNORECASE | re.DOTALL)
    ends = [
        end for end in range(len(text) + 1) if re.fullmatch(f"(?:{pattern})(?<=\\A.{{{end}}}).*", text, theirs.flags)
    ]
    assert LinearPattern(pattern).fullmatch(text) == bool(theirs.fullmatch(text))
    assert LinearPattern(pattern).match(text) == (max(ends) if ends else None)


@pytest.mark.parametrize("pattern", ["a*?", "a*+", r"(a)\1", "(?<=a)b", "^a", r"\Ba"])
def test_what_a_linear_pattern_cannot_hold_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        LinearPattern(pattern)


def steps(work: Callable[[], object]) -> int:
    """How many functions were called: what the time is made of, without a clock."""
    called = 0

    def count(frame: FrameType, event: str, arg: object) -> None:
        nonlocal called
        called += event == "call"

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return called


# Each doubled the time of a backtracking matcher with every repetition or two: a beginning, what repeats, and an end.
DOUBLING = {
    "orders to a person": ("", "i need you must ", "model zzz"),
    "very or very large": ("the ", "very large ", "models zz"),
    "very strong,": ("", "very strong, ", "llm zz"),
    "high or high end": ("", "very high end ", "model zz"),
    "to answer": ("use the best model", " to answer", " ?zz"),
    "to think": ("I need the largest tier", " to think", " what?"),
    "with this to do": ("we want a premium model", " with this to do", " ? x"),
    "to the router": ("", "the router, ", "model zzz"),
    "please": ("", "please, and ", "model zzz"),
    "names": ("use ", "gpt-4 pro ", "model zzz"),
    "hard and hard": ("this is a ", "very hard and ", "request zzz"),
    "not allowed": ("a small model cannot", " to do this", "? zzz"),
}


@pytest.mark.parametrize("pattern", ["_WHOLE", "_BEGINNING", "_COURTESY"])
@pytest.mark.parametrize("text", DOUBLING)
def test_twice_the_text_is_at_most_twice_the_work(pattern: str, text: str) -> None:
    beginning, repeated, end = DOUBLING[text]
    matching: LinearPattern = getattr(injection, pattern)
    once = steps(lambda: matching.fullmatch(f"{beginning}{repeated * 32}{end}"))
    twice = steps(lambda: matching.fullmatch(f"{beginning}{repeated * 64}{end}"))
    assert twice < 2.2 * once + 100


@pytest.mark.timeout(10)
@pytest.mark.parametrize("times", [1, 4])
@pytest.mark.parametrize("text", DOUBLING)
def test_no_sentence_that_doubled_the_work_takes_long(text: str, times: int) -> None:
    beginning, repeated, end = DOUBLING[text]
    injection.cut(f"{beginning}{repeated * 24 * times}{end}")
