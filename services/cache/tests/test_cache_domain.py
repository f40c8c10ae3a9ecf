"""The rules of the cache, without time or network."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from farthing_cache.adapters.keys import KeyNames
from farthing_cache.domain.answer import CacheKey, Org
from farthing_cache.domain.lifetime import MIN_TIME_TO_LIVE, Lifetime

HOUR = timedelta(hours=1)
ACME = Org("acme")


@given(seconds=st.floats(0.001, 1e6), jitter=st.floats(0, 0.9), fraction=st.floats(0, 1, exclude_max=True))
def test_an_entry_never_outlives_what_was_asked_nor_the_limit(seconds: float, jitter: float, fraction: float) -> None:
    life = Lifetime(HOUR, jitter).of(timedelta(seconds=seconds), fraction)
    assert MIN_TIME_TO_LIVE <= life <= max(MIN_TIME_TO_LIVE, min(HOUR, timedelta(seconds=seconds)))


def test_a_life_that_nobody_asked_for_is_the_limit_less_jitter() -> None:
    assert Lifetime(HOUR, 0.1).of(None, 0.0) == HOUR
    assert Lifetime(HOUR, 0.1).of(None, 0.5) == timedelta(minutes=57)


def test_names_in_redis_say_nothing_about_the_tenant_or_the_prompt() -> None:
    key = CacheKey(b"c" * 32, b"p" * 32)
    names = KeyNames(b"secret")
    name = f"{names.partition(ACME)}:1:{names.entry_suffix(ACME, key)}"
    assert "acme" not in name
    assert key.prompt.hex() not in name
    assert key.compatibility.hex() not in name
    assert set(name) <= set("fc:{}0123456789abcdef")


def test_equal_requests_of_two_tenants_or_two_meshes_share_no_part_of_a_name() -> None:
    key = CacheKey(b"c" * 32, b"p" * 32)
    suffixes = {
        part
        for secret in (b"one", b"two")
        for org in (ACME, Org("acme2"))
        for part in KeyNames(secret).entry_suffix(org, key).split(":")
    }
    assert len(suffixes) == 8


def test_all_names_of_a_tenant_share_one_hash_tag() -> None:
    names = KeyNames(b"secret")
    tag = names.partition(ACME)
    assert names.state(ACME).startswith(tag)
    assert names.done(ACME, "k").startswith(tag)
    assert tag.count("{") == tag.count("}") == 1
