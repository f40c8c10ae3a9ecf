"""What a tokenizer would read as control tokens is broken up."""

from __future__ import annotations

import pytest

from farthing_inference.domain.markers import ZERO_WIDTH_SPACE as GAP
from farthing_inference.domain.markers import Markers

MARKERS = Markers(["<eos>", "<unused0>", "<unused1>", "[x|y]", "a.b", "\u0001"])


@pytest.mark.parametrize(
    ("text", "broken"),
    [
        ("no marker < here > [x] a,b", "no marker < here > [x] a,b"),
        ("<eos>", f"<{GAP}eos>"),
        ("<eos><eos>", f"<{GAP}eos><{GAP}eos>"),
        ("<<eos>eos>", f"<<{GAP}eos>eos>"),
        ("<unused0> <unused99>", f"<{GAP}unused0> <{GAP}unused99>"),
        ("[x|y] a.b axb", f"[{GAP}x|y] a{GAP}.b axb"),
        ("one\u0001character", f"one{GAP}character"),
        ("", ""),
    ],
)
def test_a_marker_gets_a_gap_and_all_else_stays(text: str, broken: str) -> None:
    assert MARKERS.broken_up(text) == broken


def test_without_markers_everything_stays() -> None:
    assert Markers().broken_up("<eos>") == "<eos>"


def test_more_markers_join_those_that_are_known() -> None:
    assert (Markers(["<a>"]) | ["<b>", ""]).tokens == {"<a>", "<b>"}


def test_thousands_of_numbered_markers_make_a_short_pattern() -> None:
    many = Markers(f"<unused{number}>" for number in range(10_000))
    assert many._begin is not None
    assert len(many._begin.pattern) < 100
