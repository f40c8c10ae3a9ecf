from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain import ngrams

# The heads were trained on these numbers: a change of the hash, of the words or of the courtesies needs new heads.
GOLDEN = {
    "What is the capital of France?": [
        8067, 33883, 37381, 41467, 43368, 43564, 47304, 48475, 49762, 60195, 60745
    ],
    "naïve Café 42": [4226, 22135, 56163, 58029, 60865],
    "???": [0],
}  # fmt: skip


def test_golden_vectors() -> None:
    assert {text: ngrams.buckets(text) for text in GOLDEN} == GOLDEN
    assert ngrams.bucket("capital of") == 37381


def test_words_alone_and_in_pairs() -> None:
    assert ngrams.buckets("red, red wine") == sorted(
        {ngrams.bucket(gram) for gram in ("red", "wine", "red red", "red wine")}
    )


def test_of_a_long_text_both_ends_are_read() -> None:
    text = "first " + " ".join(f"w{number}" for number in range(100_000)) + " last"
    found = ngrams.buckets(text)
    assert len(found) <= ngrams.MAX_BUCKETS_OF_TEXT
    assert {ngrams.bucket("first"), ngrams.bucket("last")} <= set(found)


@given(st.text(max_size=400))
def test_any_text_has_buckets_in_rising_order(text: str) -> None:
    found = ngrams.buckets(text)
    assert 1 <= len(found) <= ngrams.MAX_BUCKETS_OF_TEXT
    assert found == sorted(set(found))
    assert all(0 <= bucket < ngrams.BUCKETS for bucket in found)
