"""What the gateway remembers: bounded, and forgotten when told."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_gateway.domain.claims import WINDOW_S, Claims, State, derived_request_id
from farthing_gateway.domain.errors import IdempotencyMismatch, InProgress, key_invalid
from farthing_gateway.domain.grace import Grace
from farthing_gateway.domain.grants import UNHEARD_S, Grant, Grants, fingerprint
from farthing_gateway.domain.nearcache import ENTRY_OVERHEAD_BYTES, NearCache
from farthing_kit.context import Principal
from farthing_kit.errors import Unauthenticated
from farthing_kit.hearing import LEASE_S
from farthing_kit.money import NanoUsd
from services.gateway.tests.values import POLICY, answer, ask

ENTRY = ENTRY_OVERHEAD_BYTES + 10


def near(entries: int = 3, **options: float) -> NearCache:
    made = {"max_bytes": entries * ENTRY, "max_entry_bytes": ENTRY, "time_to_live_s": 30.0, **options}
    return NearCache(**made)  # type: ignore[arg-type]


def put(cache: NearCache, org: str, key: str, now_s: float = 0.0, life_s: float = 100.0) -> bool:
    return cache.put(cache.ticket(org), key, answer("x" * 10), now_s, life_s)


class TestNearCache:
    def test_an_entry_is_bound_to_its_organisation(self) -> None:
        cache = near()
        put(cache, "acme", "k")
        assert cache.get("acme", "k", 0.0) == answer("x" * 10)
        assert cache.get("beta", "k", 0.0) is None

    def test_the_least_recently_used_goes_first(self) -> None:
        cache = near(entries=2)
        put(cache, "acme", "old")
        put(cache, "acme", "older")
        cache.get("acme", "old", 0.0)
        put(cache, "beta", "new")
        assert cache.get("acme", "older", 0.0) is None
        assert cache.get("acme", "old", 0.0) is not None
        assert len(cache) == 2

    def test_lives_are_absolute_and_the_shorter_of_two(self) -> None:
        cache = near()
        put(cache, "acme", "long", 0.0, 100.0)
        put(cache, "acme", "short", 0.0, 5.0)
        assert cache.get("acme", "long", 29.9) is not None
        assert cache.get("acme", "long", 30.0) is None
        assert cache.get("acme", "short", 5.0) is None
        assert (len(cache), cache.bytes) == (0, 0)

    def test_forgetting_one_organisation_leaves_the_others(self) -> None:
        cache = near()
        put(cache, "acme", "a")
        put(cache, "acme", "b")
        put(cache, "beta", "c")
        cache.forget("acme")
        assert len(cache) == 1
        assert cache.get("beta", "c", 0.0) is not None
        assert cache.bytes == ENTRY

    @pytest.mark.parametrize("forget", [lambda cache: cache.forget("acme"), lambda cache: cache.clear()])
    def test_what_was_under_way_when_it_was_forgotten_is_not_kept(self, forget: object) -> None:
        cache = near()
        ticket = cache.ticket("acme")
        forget(cache)  # type: ignore[operator]
        assert not cache.put(ticket, "k", answer(), 0.0, 10.0)
        assert put(cache, "acme", "k")

    def test_what_is_too_large_or_already_over_is_not_kept(self) -> None:
        cache = near()
        assert not cache.put(cache.ticket("acme"), "k", answer("x" * 11), 0.0, 10.0)
        assert not cache.put(cache.ticket("acme"), "k", answer("é" * 6), 0.0, 10.0)
        assert not put(cache, "acme", "k", life_s=0.0)
        assert not put(near(max_bytes=0), "acme", "k")

    @given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("klmn"), st.sampled_from("pgf")), max_size=60))
    def test_the_bytes_are_always_those_of_the_entries_and_never_over_the_limit(
        self, steps: list[tuple[str, str, str]]
    ) -> None:
        cache = near()
        for now_s, (org, key, step) in enumerate(steps):
            if step == "p":
                put(cache, org, key, float(now_s), 7.0)
            elif step == "g":
                cache.get(org, key, float(now_s))
            else:
                cache.forget(org)
            assert cache.bytes == len(cache) * ENTRY <= 3 * ENTRY


KEY = fingerprint("fk_one", b"salt")
OTHER = fingerprint("fk_two", b"salt")
HEARD = 3
GRANT = Grant(Principal("acme", "search", "u1", "k_1"), POLICY, time_to_live_s=60.0)


def grants(limit: int = 10) -> Grants:
    return Grants(limit=limit, stale_s=300.0, refusal_s=2.0)


class TestGrants:
    def test_a_fingerprint_does_not_hold_the_key(self) -> None:
        assert KEY.find(b"one") == -1
        assert fingerprint("fk_one", b"another salt") != KEY

    def test_a_grant_is_fresh_for_its_time_and_then_stale_for_a_while(self) -> None:
        known = grants()
        known.remember(KEY, GRANT, known.asking(0.0, HEARD), 0.0)
        assert known.fresh(KEY, 59.9, HEARD) == GRANT
        assert known.fresh(KEY, 60.0, HEARD) is None
        assert known.stale(KEY, 359.9) == GRANT
        assert known.stale(KEY, 360.0) is None

    def test_accounting_waits_as_long_as_a_grant_is_good_that_may_be_over(self) -> None:
        assert UNHEARD_S == LEASE_S

    def test_a_grant_is_good_for_a_second_where_a_word_about_its_key_may_have_been_missed(self) -> None:
        for asked, now in [(HEARD, None), (None, HEARD), (None, None), (HEARD, HEARD + 1)]:
            known = grants()
            known.remember(KEY, GRANT, known.asking(10.0, asked), 10.9)
            assert known.fresh(KEY, 10.99, now) == GRANT
            assert known.fresh(KEY, 11.0, now) is None
            assert known.stale(KEY, 11.0) == GRANT
            assert (known.fresh(KEY, 11.0, HEARD) is not None) == (asked == HEARD)

    def test_a_refusal_is_remembered_briefly(self) -> None:
        known = grants()
        known.refuse(KEY, key_invalid(), 0.0)
        with pytest.raises(Unauthenticated):
            known.fresh(KEY, 1.9, HEARD)
        assert known.fresh(KEY, 2.0, HEARD) is None

    def test_a_refusal_ends_a_grant(self) -> None:
        known = grants()
        known.remember(KEY, GRANT, known.asking(0.0, HEARD), 0.0)
        known.refuse(KEY, key_invalid(), 61.0)
        assert known.stale(KEY, 70.0) is None

    def test_a_flood_of_bad_keys_drives_out_no_good_one(self) -> None:
        known = grants(limit=3)
        known.remember(KEY, GRANT, known.asking(0.0, HEARD), 0.0)
        for number in range(50):
            known.refuse(fingerprint(f"fk_{number}", b""), key_invalid(), 0.0)
        assert known.fresh(KEY, 1.0, HEARD) == GRANT

    def test_grants_are_bounded(self) -> None:
        known = grants(limit=3)
        for number in range(50):
            known.remember(fingerprint(f"fk_{number}", b""), GRANT, known.asking(0.0, HEARD), 0.0)
        assert len(known) == 3

    def test_a_revoked_key_is_gone_at_once_even_as_stale(self) -> None:
        known = grants()
        known.remember(KEY, GRANT, known.asking(0.0, HEARD), 0.0)
        known.remember(OTHER, replace(GRANT, principal=Principal("acme", key_id="k_2")), known.asking(0.0, HEARD), 0.0)
        known.forget_key("k_1")
        assert known.stale(KEY, 1.0) is None
        assert known.fresh(OTHER, 1.0, HEARD) is not None

    def test_a_changed_policy_ends_every_grant_of_the_organisation(self) -> None:
        known = grants()
        known.remember(KEY, GRANT, known.asking(0.0, HEARD), 0.0)
        known.remember(OTHER, replace(GRANT, principal=Principal("beta")), known.asking(0.0, HEARD), 0.0)
        known.forget_org("acme")
        assert known.fresh(KEY, 1.0, HEARD) is None
        assert known.fresh(OTHER, 1.0, HEARD) is not None

    def test_an_answer_that_was_under_way_during_an_invalidation_is_not_remembered(self) -> None:
        known = grants()
        asked = known.asking(0.0, HEARD)
        known.forget_key("k_1")
        known.remember(KEY, GRANT, asked, 0.0)
        assert known.fresh(KEY, 1.0, HEARD) is None


class TestClaims:
    def test_twins_share_an_id_and_others_do_not(self) -> None:
        ids = {
            derived_request_id(org, key, body, day * WINDOW_S)
            for org in "ab"
            for key in "kl"
            for body in (b"1", b"2")
            for day in (0, 1)
        }
        assert len(ids) == 16
        assert derived_request_id("a", "k", b"1", 1.0) == derived_request_id("a", "k", b"1", WINDOW_S - 1)

    def test_the_twin_of_a_running_request_waits(self) -> None:
        claims = Claims(limit=10)
        claims.claim("acme", ask(idempotency_key="k"), 0.0)
        with pytest.raises(InProgress):
            claims.claim("acme", ask(idempotency_key="k"), 1.0)
        assert claims.claim("beta", ask(idempotency_key="k"), 1.0).state is State.RUNNING

    def test_another_body_is_refused_whatever_became_of_the_first(self) -> None:
        claims = Claims(limit=10)
        claim = claims.claim("acme", ask(idempotency_key="k"), 0.0)
        for state in State:
            claim.state = state
            with pytest.raises(IdempotencyMismatch):
                claims.claim("acme", ask("something else", idempotency_key="k"), 1.0)

    def test_every_attempt_at_a_request_has_the_id_that_the_books_know_it_by(self) -> None:
        claims = Claims(limit=10)
        claim = claims.claim("acme", ask(idempotency_key="k"), 0.0)
        first = claim.request_id
        claim.state = State.UNANSWERED
        again = claims.claim("acme", ask(idempotency_key="k"), 1.0)
        assert (again.request_id, again.state) == (first, State.RUNNING)

    def test_after_its_window_a_key_is_new(self) -> None:
        claims = Claims(limit=10)
        first = claims.claim("acme", ask(idempotency_key="k"), 100.0).request_id
        again = claims.claim("acme", ask("another body", idempotency_key="k"), 100.0 + WINDOW_S)
        assert again.request_id != first

    def test_keys_are_bounded_and_the_oldest_goes_first(self) -> None:
        claims = Claims(limit=2)
        for number in range(5):
            claims.claim("acme", ask(idempotency_key=str(number)), float(number))
        assert len(claims) == 2
        with pytest.raises(InProgress):
            claims.claim("acme", ask(idempotency_key="4"), 6.0)


class TestGrace:
    def test_an_organisation_spends_up_to_its_limit_and_no_further(self) -> None:
        grace = Grace(quiet_s=30.0)
        assert grace.spend("acme", NanoUsd(60), NanoUsd(100))
        assert not grace.spend("acme", NanoUsd(41), NanoUsd(100))
        assert grace.spend("acme", NanoUsd(40), NanoUsd(100))
        assert grace.spend("beta", NanoUsd(100), NanoUsd(100))

    def test_what_was_not_used_comes_back(self) -> None:
        grace = Grace(quiet_s=30.0)
        grace.spend("acme", NanoUsd(100), NanoUsd(100))
        grace.give_back("acme", NanoUsd(70))
        assert grace.spent("acme") == 30
        grace.give_back("acme", NanoUsd(70))
        assert grace.spent("acme") == 0

    def test_an_outage_is_over_after_a_quiet_time_and_not_with_the_first_answer(self) -> None:
        grace = Grace(quiet_s=30.0)
        grace.spend("acme", NanoUsd(100), NanoUsd(100))
        grace.accounting_answered(0.0)
        grace.accounting_failed()
        grace.accounting_answered(29.0)
        grace.accounting_answered(58.9)
        assert grace.spent("acme") == 100
        grace.accounting_answered(59.0)
        assert grace.spent("acme") == 0
