"""How much is reserved, and what is told at the end."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_gateway.domain import costs
from farthing_gateway.domain.acceptance import Limits, accept
from farthing_gateway.domain.catalogue import ModelPrice, catalogue
from farthing_gateway.domain.eligibility import CacheUse, cache_use
from farthing_gateway.domain.estimate import TOKENS_PER_MESSAGE, TOKENS_PER_PROMPT, estimate
from farthing_gateway.domain.model import Role, Tier
from farthing_gateway.domain.policy import Policy
from farthing_gateway.domain.prompt import CacheControl, Message, Prompt
from farthing_kit.context import Principal
from farthing_kit.money import WHOLE, HitPrice, Millionths, UnitPrices
from farthing_kit.usage import TokenUsage
from services.gateway.tests.values import MODELS, POLICY, PRICES, ask, policy, sampled

QUOTE = catalogue(MODELS, PRICES).quote("small")
TEMPLATE = TOKENS_PER_PROMPT + TOKENS_PER_MESSAGE


def bound(text: str) -> int:
    return estimate((Message(Role.USER, text),), 100).fresh_input - TEMPLATE


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", 0),
        ("The world", 2),
        ("The planet, and its people.", 7),
        ("the\n\n  the", 6),  # spaces in a row may be a token of their own
        ("(world)", 4),  # a sign may take the first letters with it
        ("'region", 7),  # a contraction may: 're
        ("theé", 5),
        ("acgtacgt", 8),
        ("1234567", 7),
        ("a+b=c", 5),
        ("☃", 3),
        ("x <pad> [/INST]", 20),  # such a token is broken up, which makes it longer
    ],
)
def test_each_byte_counts_one_and_so_does_a_common_word_with_its_space(text: str, tokens: int) -> None:
    assert bound(text) == tokens


@given(st.text(max_size=200))
def test_nothing_counts_more_than_its_bytes_and_what_breaks_up_control_tokens(text: str) -> None:
    assert bound(text) <= len(text.encode()) + 3 * min(
        text.count("<") + text.count("["), text.count(">") + text.count("]")
    )


@given(st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz "), max_size=60), st.text(max_size=60))
def test_no_text_makes_another_one_cost_less(text: str, other: str) -> None:
    assert bound(f"{text}\n{other}") >= bound(text)


def test_each_message_adds_its_template() -> None:
    one = estimate((Message(1, "a b"),), 10)
    two = estimate((Message(1, "a b"), Message(2, "")), 10)
    assert two.fresh_input - one.fresh_input == TOKENS_PER_MESSAGE
    assert one.output == 10


def test_a_generation_is_priced_to_the_nano_dollar() -> None:
    assert QUOTE is not None
    told = costs.of_generation(TokenUsage(fresh_input=12, output=5), QUOTE)
    assert told.cost == (12 * 20_000_000 + 5 * 60_000_000) // 1_000_000
    assert told.counterfactual == 12 * 1000 + 5 * 4000
    assert told.saved == told.counterfactual - told.cost


def test_a_hit_costs_nothing_and_saves_the_whole_counterfactual() -> None:
    told = costs.of_hit(TokenUsage(fresh_input=12, output=5), QUOTE, HitPrice())
    assert (told.cost, told.counterfactual, told.saved) == (0, 32_000, 32_000)
    assert costs.of_hit(TokenUsage(output=5), None, HitPrice()) == costs.NOTHING


@pytest.mark.parametrize(("share", "price"), [(1, 0), (925, 0), (926, 1), (100_000, 54), (333_333, 180), (WHOLE, 540)])
def test_a_hit_costs_a_share_of_the_call_that_it_spares_and_saves_the_rest(share: int, price: int) -> None:
    told = costs.of_hit(TokenUsage(fresh_input=12, output=5), QUOTE, HitPrice(3, Millionths(share)))
    assert (told.cost, told.counterfactual, told.saved) == (price, 32_000, 32_000 - price)


@given(st.builds(TokenUsage, *[st.integers(0, 10**6)] * 5), st.integers(0, WHOLE))
def test_a_hit_is_never_dearer_than_asking_the_same_model_again(tokens: TokenUsage, share: int) -> None:
    assert QUOTE is not None
    again = costs.of_generation(tokens, QUOTE)
    told = costs.of_hit(tokens, QUOTE, HitPrice(3, Millionths(share)))
    assert told.cost <= again.cost
    assert (told.cost == again.cost or share < WHOLE, told.counterfactual) == (True, again.counterfactual)


MOST = TokenUsage(fresh_input=10, output=10)
# Nothing in a price list says that the large tier is the dearest, nor a tier's newest model.
ODD = (ModelPrice("small", Tier.SMALL, UnitPrices(output=5_000_000_000), 4), *PRICES[1:])


@pytest.mark.parametrize(
    ("prices", "model", "tier", "most", "dearest"),
    [
        (PRICES, "", Tier.UNSPECIFIED, Tier.LARGE, "large"),
        (PRICES, "", Tier.UNSPECIFIED, Tier.MEDIUM, "medium"),
        (PRICES, "", Tier.SMALL, Tier.LARGE, "small"),
        (PRICES, "medium", Tier.UNSPECIFIED, Tier.LARGE, "medium"),
        (PRICES, "huge", Tier.UNSPECIFIED, Tier.LARGE, None),
        (ODD, "", Tier.UNSPECIFIED, Tier.LARGE, "small"),
        ((), "", Tier.UNSPECIFIED, Tier.LARGE, None),
        (PRICES[:2], "", Tier.UNSPECIFIED, Tier.LARGE, None),
    ],
)
def test_the_dearest_model_that_may_answer(
    prices: tuple[ModelPrice, ...], model: str, tier: Tier, most: Tier, dearest: str | None
) -> None:
    assert catalogue(MODELS, prices).dearest(MOST, model, tier, most) == dearest


def use(prompt: Prompt, under: Policy = POLICY) -> CacheUse:
    return cache_use(accept(prompt, under, Limits()), under, Principal("acme"))


def test_a_plain_question_may_come_from_and_go_to_the_caches() -> None:
    assert use(ask()) == CacheUse(read=True, write=True)


def test_sampled_answers_are_not_cached() -> None:
    assert not use(ask(sampling=sampled(temperature=0.01))).any
    assert use(ask(sampling=sampled(temperature=0.0, top_p=0.5))).any


def test_the_policy_can_switch_the_caches_off() -> None:
    assert not use(ask(), policy(cache_enabled=False)).any


def test_callers_control_reading_and_writing_apart() -> None:
    assert use(ask(cache_control=CacheControl(no_cache=True))) == CacheUse(read=False, write=True)
    assert use(ask(cache_control=CacheControl(no_store=True))) == CacheUse(read=True, write=False)


def test_an_age_of_nothing_means_do_not_read() -> None:
    assert use(ask(cache_control=CacheControl(max_age=timedelta(0)))).read is False
    minute = timedelta(minutes=1)
    assert use(ask(cache_control=CacheControl(max_age=minute))) == CacheUse(read=True, write=True, max_age=minute)
