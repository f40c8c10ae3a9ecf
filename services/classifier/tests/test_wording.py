import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain import lexical, ngrams
from farthing_classifier.domain.wording import LEAD_WORDS, core, plain, rest


@pytest.mark.parametrize(
    "text",
    [
        "Hi, could you please answer this question: What is the capital of France?",
        "Hello! What is the capital of France?",
        "Good morning, can you help me with this: What is the capital of France?",
        "Hey there, tell me what is the capital of France? Thanks!",
        "What is the capital of France? please",
        "What is the capital of France, please?",
        "What is the capital of France? Thanks, please!",
        "WHAT  is the capital of france",
    ],
)
def test_courtesies_case_and_marks_do_not_change_the_words(text: str) -> None:
    assert ngrams.buckets(text) == ngrams.buckets("What is the capital of France?")


@pytest.mark.parametrize("text", ["hi", "Hello!", "thanks a lot", "hello, how are you?", "please", "?!"])
def test_what_is_little_more_than_courtesies_stays(text: str) -> None:
    assert core(text)
    assert ngrams.buckets(text)


def test_a_greeting_within_the_text_stays() -> None:
    text = "Translate to German: hello, my friend, and thanks for all the fish"
    assert core(text) == text


def test_typographic_quotes_are_plain_ones() -> None:
    assert core("Who\u2019s the author of \u201cEmma\u201d, the novel?") == 'Who\'s the author of "Emma", the novel?'


def test_lines_stay_and_blanks_are_single() -> None:
    assert plain("Which  is right?\nA.  one \nB. two\nAnswer:") == "Which is right?\nA. one \nB. two\nAnswer:"


@given(st.text(max_size=300))
def test_any_text_has_a_core_and_features(text: str) -> None:
    assert len(core(text)) <= len(text) * 3 + 3
    assert len(lexical.features(text)) == len(lexical.NAMES)


def test_long_courtesies_take_bounded_time() -> None:
    assert core("hi, " * 50_000)
    assert core("x" + " please" * 50_000)


def test_the_rest_is_what_follows_the_first_words() -> None:
    words = [f"w{number}" for number in range(3 * LEAD_WORDS)]
    assert rest(" ".join(words)) == " ".join(words[LEAD_WORDS:])


@pytest.mark.parametrize(("text", "left"), [("one two three four", "three four"), ("one", "one"), ("?!", "?!")])
def test_at_least_half_of_a_text_is_left(text: str, left: str) -> None:
    assert rest(text) == left


def test_what_is_put_before_a_text_is_not_in_its_rest() -> None:
    text = " ".join(f"w{number}" for number in range(40))
    before = " ".join(f"hard{number}" for number in range(LEAD_WORDS))
    assert rest(f"{before} {text}") == text


@given(st.text(max_size=400))
def test_the_rest_is_an_end_of_the_plain_text(text: str) -> None:
    assert plain(text).endswith(rest(text))
    assert rest(text) or not plain(text)
