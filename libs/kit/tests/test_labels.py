"""One rule for labels: words of every language pass, what breaks lines or hides does not, and the books can mend it."""

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_kit.invisible import is_blank
from farthing_kit.labels import MAX_CHARS, REPLACEMENT, escaped, fault, sanitised

WORDS = [
    "search",
    "a b",
    "می\u200cخواهم",
    "क्\u200dष",
    "👩\u200d💻",
    "❤\ufe0f",
    "🏴\U000e0067\U000e0062\U000e0073\U000e0063\U000e0074\U000e007f",  # the flag of Scotland
    "prix\u00a0net",
    "検索\u3000窓",
    "שלום\u200f!",
    "ki\u00adlo",
    "ภาษา\u200bไทย",
    "[/INST]",
    "\U0001fae9",  # of a Unicode that this Python may not know yet
    REPLACEMENT,
]
REFUSED = [
    ("a\nb", "has U+000A, a control character, at place 2, must have none"),
    ("prod\n", "has U+000A, a control character, at place 5, must have none"),
    ("a\tb", "has U+0009, a control character, at place 2, must have none"),
    ("\x00", "has U+0000, a control character, at place 1, must have none"),
    ("a\x85", "has U+0085, a control character, at place 2, must have none"),
    ("a\u2028b", "has U+2028, a line separator, at place 2, must have none"),
    ("a\u2029b", "has U+2029, a paragraph separator, at place 2, must have none"),
    ("\ufeffprod", "has U+FEFF, a byte order mark, at place 1, must have none"),
    ("ab\u202edorp", "has U+202E, a change of direction, at place 3, must have none"),
    ("\u2066a", "has U+2066, a change of direction, at place 1, must have none"),
    ("\ue000", "has U+E000, a character of private use, at place 1, must have none"),
    ("\U00100000", "has U+100000, a character of private use, at place 1, must have none"),
    ("a\ud800", "has U+D800, half of a surrogate pair, at place 2, must have none"),
    ("a\uffff", "has U+FFFF, no character of Unicode, at place 2, must have none"),
    ("a\ufdd0", "has U+FDD0, no character of Unicode, at place 2, must have none"),
    ("a\U0010fffe", "has U+10FFFE, no character of Unicode, at place 2, must have none"),
    ("", "has 0 characters, must have 1 to 64"),
    ("x" * 65, "has 65 characters, must have 1 to 64"),
    (" ", "shows nothing, must have a character that can be seen"),
    ("\u00a0\u200b", "shows nothing, must have a character that can be seen"),
    ("\u200f", "shows nothing, must have a character that can be seen"),
    ("\u3164", "shows nothing, must have a character that can be seen"),
]


@pytest.mark.parametrize("word", WORDS)
def test_words_of_every_language_are_labels(word: str) -> None:
    assert fault(word) is None
    assert sanitised(word) == word


@pytest.mark.parametrize(("text", "said"), REFUSED)
def test_a_refusal_names_the_character_and_its_place(text: str, said: str) -> None:
    assert fault(text) == said


@pytest.mark.parametrize(
    ("text", "mended"),
    [
        ("a\nb", "a\ufffdb"),
        ("prod\n", "prod\ufffd"),
        ("x" * 65, "x" * 63 + "\ufffd"),
        ("", "\ufffd"),
        (" \u200b", "\ufffd"),
        ("a\ud800", "a\ufffd"),
        ("می\u200cخ\u202e", "می\u200cخ\ufffd"),
    ],
)
def test_what_is_taken_out_of_a_label_is_seen(text: str, mended: str) -> None:
    assert sanitised(text) == mended


def test_an_empty_label_is_one_where_it_may_be_left_out() -> None:
    assert fault("", least=0) is None
    assert sanitised("", least=0) == ""
    assert fault(" ", least=0) is not None


@given(st.text(st.characters(), max_size=2 * MAX_CHARS), st.integers(0, 1), st.integers(1, 128))
def test_whatever_comes_is_mended_into_a_label(text: str, least: int, most: int) -> None:
    mended = sanitised(text, least=least, most=most)
    assert fault(mended, least=least, most=most) is None
    assert sanitised(mended, least=least, most=most) == mended
    mended.encode()  # a store can take it


def test_what_unicode_gives_no_width_and_no_ink_is_blank() -> None:
    assert is_blank("\u200b\u200b\ufeff")
    assert is_blank(" \t\n\x00\u2800\u3164\u00ad\U000e0041\ufe0f")
    assert is_blank("")
    assert not is_blank("\u200b.\u200b")
    every = [chr(point) for point in range(0x110000)]
    marks = [char for char in every if unicodedata.category(char) in ("Zs", "Zl", "Zp", "Cc") and not is_blank(char)]
    assert marks == []
    seen = [char for char in every if unicodedata.category(char)[0] in "NP" and is_blank(char)]
    assert seen == []


@pytest.mark.parametrize("word", WORDS)
def test_words_are_shown_as_they_are(word: str) -> None:
    assert escaped(word) == word


@given(st.text(st.characters(exclude_characters='\\"')))
def test_what_is_shown_has_nothing_that_a_label_may_not_have_and_can_be_read_back(text: str) -> None:
    shown = escaped(text)
    assert is_blank(shown) or fault(shown, most=len(shown)) is None
    assert json.loads(f'"{shown}"') == text


def test_what_would_break_a_line_or_a_terminal_is_written_out() -> None:
    assert escaped("a\nb\x1b[31m\u202e\u2028\udce9") == r"a\nb\u001b[31m\u202e\u2028\udce9"
