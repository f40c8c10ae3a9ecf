import pytest

from farthing_classifier.domain.tiers import TIERS, complexity, outlooks


def test_the_gain_is_what_the_next_tier_adds() -> None:
    made = outlooks([-1.0, 0.0, 1.0], [0.2, 0.5, 0.9])
    assert [outlook.tier for outlook in made] == list(TIERS)
    assert [outlook.gain for outlook in made] == pytest.approx([0.3, 0.4, 0.0])


@pytest.mark.parametrize(
    ("successes", "hard"), [([0.9, 0.9, 0.9], 0.0), ([0.0, 0.5, 0.8], 1.0), ([0.4, 0.6, 0.8], 0.5), ([0, 0, 0], 0.0)]
)
def test_complexity_is_the_share_of_what_large_answers_that_small_misses(successes: list[float], hard: float) -> None:
    assert complexity(outlooks([0.0, 0.0, 0.0], successes)) == pytest.approx(hard)
