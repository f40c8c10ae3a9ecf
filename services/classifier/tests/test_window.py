from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain import window


def test_a_text_within_the_limit_is_read_whole() -> None:
    assert window.ends("short") == window.Ends("short", "", 0)


@given(st.integers(0, 60_000))
def test_read_and_hidden_characters_add_up(length: int) -> None:
    ends = window.ends("x" * length)
    assert len(ends.head) + len(ends.tail) + ends.hidden_chars == length
    assert len(ends.text) <= window.HEAD_CHARS + window.TAIL_CHARS + 1


def test_the_beginning_and_the_end_of_a_long_text_are_kept() -> None:
    assert window.fit(range(100), 8) == [0, 1, 2, 3, 4, 5, 98, 99]


@given(st.lists(st.integers(), max_size=300), st.integers(1, 200))
def test_what_fits_never_exceeds_the_room_and_keeps_the_order(ids: list[int], room: int) -> None:
    fitted = window.fit(ids, room)
    assert len(fitted) == min(len(ids), room)
    assert fitted == ids if len(ids) <= room else fitted[-1:] in (ids[-1:], fitted[-1:])


def test_the_hidden_part_is_taken_to_be_as_dense_as_the_rest() -> None:
    assert window.estimate_tokens(100, 400, 4_000) == 1_100


def test_without_any_known_token_the_usual_density_is_assumed() -> None:
    assert window.estimate_tokens(0, 400, 4_000) == 1_000


def test_unread_text_is_guessed_by_its_script() -> None:
    assert window.guess_tokens("four" * 10) == 10
    assert window.guess_tokens("你好世界") == 4
