"""The whole service on real servers, as its callers see it."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from farthing.accounting.v1 import admission_service_pb2 as admission_pb
from farthing.accounting.v1 import budget_service_pb2 as budget_pb
from farthing.accounting.v1 import key_service_pb2 as key_pb
from farthing.accounting.v1 import ledger_service_pb2 as ledger_pb
from farthing.accounting.v1 import policy_pb2
from farthing.accounting.v1 import price_service_pb2 as price_pb
from farthing.accounting.v1 import report_service_pb2 as report_pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing.type.v1.usage_pb2 import TokenUsage
from farthing_kit.context import Principal
from farthing_kit.errors import FarthingError
from farthing_kit.money import UnitPrices as Prices
from farthing_kit.wire import money_to_message, prices_to_message
from services.accounting.tests.client import (
    ADA,
    Accounting,
    eventually,
    once,
    seconds,
    tenant,
    usage_event,
)

R = ErrorReason
# 600 + 400 tokens of the small model at 0.10 dollars for a million.
HELD = 100_000


async def refused(call: Any) -> FarthingError:
    with pytest.raises(FarthingError) as caught:
        await call
    return caught.value


async def reason(call: Any) -> str:
    return ErrorReason.Name((await refused(call)).reason).removeprefix("ERROR_REASON_")


# --- keys and authorising


async def new_key(accounting: Accounting, **changes: Any) -> key_pb.CreateKeyResponse:
    request = key_pb.CreateKeyRequest(idempotency_key=once(), org="acme", team="search", user="ada", **changes)
    return await accounting.operator.keys.CreateKey(request)  # type: ignore[no-any-return]


def authorize(accounting: Accounting, api_key: str) -> Any:
    return accounting.service.admission.Authorize(admission_pb.AuthorizeRequest(api_key=api_key))


async def test_a_new_key_is_authorised_with_its_principal_and_policy(accounting: Accounting) -> None:
    made = await new_key(accounting)
    assert made.api_key.startswith("fk_")
    granted = await authorize(accounting, made.api_key)
    assert granted.principal == made.key.principal
    assert (granted.principal.org, granted.principal.team, granted.principal.user) == ("acme", "search", "ada")
    assert granted.policy.version == 0
    assert granted.policy.outage_mode == policy_pb2.OUTAGE_MODE_DENY
    assert granted.time_to_live.seconds == 60


async def test_malformed_unknown_and_forged_keys_look_the_same(accounting: Accounting) -> None:
    made = await new_key(accounting)
    forged = made.api_key[:-1] + ("0" if made.api_key[-1] != "0" else "1")
    errors = [await refused(authorize(accounting, key)) for key in ("", "fk_x", forged, f"fk_{'0' * 16}_{'0' * 64}")]
    assert {error.reason for error in errors} == {R.ERROR_REASON_KEY_INVALID}
    assert len({(error.message, str(error.metadata)) for error in errors}) == 1


async def test_a_revoked_key_ends_at_once_and_gateways_are_told(accounting: Accounting) -> None:
    made = await new_key(accounting)
    heard = await accounting.nats.subscribe("farthing.invalidate.keys")
    await accounting.nats.flush()
    key_id = made.key.principal.key_id
    for _ in range(2):
        revoked = await accounting.operator.keys.RevokeKey(key_pb.RevokeKeyRequest(key_id=key_id))
        assert revoked.key.HasField("revoke_time")
        assert (await heard.next_msg(5)).data == key_id.encode()
    error = await refused(authorize(accounting, made.api_key))
    assert (error.reason, error.metadata["key_id"]) == (R.ERROR_REASON_KEY_REVOKED, key_id)


async def test_an_expired_key_is_not_authorised(accounting: Accounting) -> None:
    request = key_pb.CreateKeyRequest(idempotency_key=once(), org="acme")
    request.expire_time.FromDatetime(datetime.now(UTC) - timedelta(seconds=1))
    made = await accounting.operator.keys.CreateKey(request)
    assert await reason(authorize(accounting, made.api_key)) == "KEY_REVOKED"


@pytest.mark.parametrize("user", ["می\u200cخواهم", "👩\u200d💻", "山田\u3000太郎", "Ann\u00a0Lee"])
async def test_people_have_the_names_that_their_languages_have(accounting: Accounting, user: str) -> None:
    request = key_pb.CreateKeyRequest(idempotency_key=once(), org="acme", user=user)
    assert (await accounting.operator.keys.CreateKey(request)).key.principal.user == user


@pytest.mark.parametrize("user", ["a\nb", "a\u2028b", "\ufeffann", "\u202enna", "\ue000", " "])
async def test_a_name_that_breaks_lines_or_hides_is_refused(accounting: Accounting, user: str) -> None:
    request = key_pb.CreateKeyRequest(idempotency_key=once(), org="acme", user=user)
    with pytest.raises(FarthingError) as caught:
        await accounting.operator.keys.CreateKey(request)
    assert caught.value.metadata == {"fields": "user"}


async def test_a_key_is_made_once_and_its_secret_shown_once(accounting: Accounting) -> None:
    request = key_pb.CreateKeyRequest(idempotency_key="same", org="acme")
    made = await asyncio.gather(*(accounting.operator.keys.CreateKey(request) for _ in range(5)))
    assert len({response.key.principal.key_id for response in made}) == 1
    assert len([response for response in made if response.api_key]) == 1
    other = key_pb.CreateKeyRequest(idempotency_key="same", org="globex")
    assert await reason(accounting.operator.keys.CreateKey(other)) == "IDEMPOTENCY_MISMATCH"
    listed = await accounting.operator.keys.ListKeys(key_pb.ListKeysRequest(org="acme"))
    assert [key.principal.key_id for key in listed.keys] == [made[0].key.principal.key_id]


async def test_a_key_that_does_not_exist_cannot_be_revoked(accounting: Accounting) -> None:
    assert await reason(accounting.operator.keys.RevokeKey(key_pb.RevokeKeyRequest(key_id="k_none"))) == "NOT_FOUND"


# --- reserving


async def test_a_reservation_comes_with_the_prices_that_hold(accounting: Accounting) -> None:
    made = await accounting.reserve()
    assert (made.reservation.amount.nano_units, made.reservation.tokens) == (HELD, 1_000)
    assert not made.reservation.HasField("remaining")
    assert (made.quote.model, made.quote.counterfactual_model) == ("small", "large")
    assert made.quote.prices.output.nano_units == 100_000_000
    assert made.quote.counterfactual_prices.output.nano_units == 900_000_000
    left = made.reservation.expire_time.ToDatetime(UTC) - datetime.now(UTC)
    assert timedelta(seconds=50) < left <= timedelta(seconds=60)


async def test_a_budget_holds_from_the_next_reservation_on(accounting: Accounting) -> None:
    await accounting.reserve("r1")
    await accounting.set_budget(money=2 * HELD + 50)
    second = await accounting.reserve("r2")
    assert second.reservation.remaining.nano_units == 50
    # Nearly all of a day's money is held: too fast at any time of day but its very end, and counted from 5 % of it on.
    assert 0.9 < second.reservation.budget_pace <= 1 / 0.05
    error = await refused(accounting.reserve("r3"))
    assert error.reason == R.ERROR_REASON_BUDGET_EXCEEDED
    assert error.metadata == {"scope": "org:acme", "window": "day", "remaining_nano_usd": "50"}
    assert error.quotas[0].subject == "org:acme"
    await accounting.set_budget(money=10 * HELD)
    await accounting.reserve("r3")
    (state,) = await accounting.state()
    assert (state.reserved.nano_units, state.reserved_tokens, state.in_flight) == (3 * HELD, 3_000, 3)


async def test_each_scope_and_quantity_can_refuse(accounting: Accounting) -> None:
    await accounting.set_budget("TEAM", "search", limit_concurrency=1)
    await accounting.set_budget("KEY", ADA.key_id, "MINUTE", limit_tokens=1_500)
    await accounting.reserve("r1")
    places = await refused(accounting.reserve("r2"))
    assert places.reason == R.ERROR_REASON_QUOTA_EXCEEDED
    assert (places.metadata["scope"], places.metadata["quantity"]) == ("team:acme/search", "concurrency")
    assert places.retry_after_s == 1.0
    await accounting.set_budget("TEAM", "search")
    tokens = await refused(accounting.reserve("r2"))
    assert (tokens.metadata["scope"], tokens.metadata["quantity"]) == (f"key:{ADA.key_id}", "tokens")
    assert tokens.retry_after_s is not None
    assert 0 < tokens.retry_after_s <= 60
    await accounting.reserve("r2", accounting.as_caller(tenant(Principal("acme", "search", "ada", "k_other"))))


async def test_a_thousand_callers_get_what_fits(accounting: Accounting) -> None:
    fits = 60
    await accounting.set_budget(money=fits * HELD)
    results = await asyncio.gather(*(accounting.reserve(f"r{n}") for n in range(200)), return_exceptions=True)
    assert len([r for r in results if isinstance(r, admission_pb.ReserveResponse)]) == fits
    assert all(
        isinstance(r, FarthingError) and r.reason == R.ERROR_REASON_BUDGET_EXCEEDED
        for r in results
        if not isinstance(r, admission_pb.ReserveResponse)
    )


async def test_the_same_reservation_again_is_the_same_whatever_prices_do(accounting: Accounting) -> None:
    first = await accounting.reserve()
    await set_price(accounting, "small", model_pb2.TIER_SMALL, 7)
    again = await accounting.reserve()
    assert again == first
    assert (await accounting.reserve("r2")).quote.price_version > first.quote.price_version
    assert await reason(accounting.reserve(model="large")) == "IDEMPOTENCY_MISMATCH"


async def test_extending_and_releasing(accounting: Accounting) -> None:
    await accounting.set_budget(money=2 * HELD)
    await accounting.reserve()
    admission = accounting.tenant.admission
    more = TokenUsage(output_tokens=500)
    extend = admission_pb.ExtendRequest(
        reservation_id="r1", idempotency_key="x1", additional=more, time_to_live=seconds(60)
    )
    for _ in range(2):
        longer = (await admission.Extend(extend)).reservation
        assert (longer.amount.nano_units, longer.tokens) == (HELD + 50_000, 1_500)
        assert longer.remaining.nano_units == 50_000
    too_much = admission_pb.ExtendRequest(
        reservation_id="r1",
        idempotency_key="x2",
        additional=TokenUsage(output_tokens=501),
        time_to_live=seconds(60),
    )
    assert await reason(admission.Extend(too_much)) == "BUDGET_EXCEEDED"
    too_much.idempotency_key = "x1"
    assert await reason(admission.Extend(too_much)) == "IDEMPOTENCY_MISMATCH"
    for _ in range(2):
        await admission.Release(admission_pb.ReleaseRequest(reservation_id="r1"))
    assert (await accounting.state())[0].reserved.nano_units == 0
    assert await reason(admission.Extend(extend)) == "RESERVATION_CLOSED"
    assert await reason(accounting.reserve()) == "RESERVATION_CLOSED"
    extend.reservation_id = "never made"
    assert await reason(admission.Extend(extend)) == "RESERVATION_CLOSED"


async def test_a_model_without_a_price_is_not_admitted(accounting: Accounting) -> None:
    error = await refused(accounting.reserve(model="huge"))
    assert (error.reason, error.metadata["model"]) == (R.ERROR_REASON_PRICE_MISSING, "huge")


async def test_a_hit_reserves_its_share_of_the_models_price(accounting: Accounting) -> None:
    await accounting.set_budget(money=2 * 10_000 + 1, limit_tokens=1, limit_concurrency=1)
    price = policy_pb2.HitPrice(policy_version=1, share_millionths=100_000)
    made = await accounting.reserve("h1", hit_price=price)
    # 600 + 400 tokens of the small model at 0.10 dollars for a million, and a tenth of that.
    assert (made.reservation.amount.nano_units, made.reservation.tokens) == (10_000, 0)
    again = await accounting.reserve("h1", hit_price=price)
    assert (again.reservation.expire_time, again.quote) == (made.reservation.expire_time, made.quote)
    assert await reason(accounting.reserve("h1")) == "IDEMPOTENCY_MISMATCH"
    other = policy_pb2.HitPrice(policy_version=1, share_millionths=100_001)
    assert await reason(accounting.reserve("h1", hit_price=other)) == "IDEMPOTENCY_MISMATCH"
    await accounting.reserve("h2", hit_price=price)  # neither tokens nor places are in its way
    (state,) = await accounting.state()
    assert (state.reserved.nano_units, state.reserved_tokens, state.in_flight) == (20_000, 0, 0)
    assert (await refused(accounting.reserve("h3", hit_price=price))).metadata["remaining_nano_usd"] == "1"


# --- prices and policies


async def set_price(accounting: Accounting, model: str, tier: int, nano: int, key: str = "") -> price_pb.ModelPrice:
    prices = prices_to_message(Prices(nano, nano, nano, nano, nano))
    price = price_pb.ModelPrice(model=model, tier=tier, prices=prices)  # type: ignore[arg-type]
    request = price_pb.SetPriceRequest(idempotency_key=key or once(), price=price)
    return (await accounting.operator.prices.SetPrice(request)).price  # type: ignore[no-any-return]


async def test_the_declared_prices_are_in_force_once(accounting: Accounting, accounting_settings: Any) -> None:
    from farthing_accounting.main import build
    from farthing_kit.testing.server import running

    async with running("accounting", accounting_settings, build):
        listed = (await accounting.tenant.prices.ListPrices(price_pb.ListPricesRequest())).prices
    assert [price.model for price in listed] == ["large", "medium", "small"]
    assert sorted(price.price_version for price in listed) == [1, 2, 3]


async def test_a_price_is_a_new_version_once(accounting: Accounting) -> None:
    first = await set_price(accounting, "small", model_pb2.TIER_SMALL, 7, "same")
    assert await set_price(accounting, "small", model_pb2.TIER_SMALL, 7, "same") == first
    assert first.price_version == 4
    assert await reason(set_price(accounting, "small", model_pb2.TIER_SMALL, 8, "same")) == "IDEMPOTENCY_MISMATCH"
    listed = (await accounting.tenant.prices.ListPrices(price_pb.ListPricesRequest())).prices
    assert first in listed


async def test_a_policy_counts_up_and_gateways_are_told(accounting: Accounting) -> None:
    made = await new_key(accounting)
    heard = await accounting.nats.subscribe("farthing.invalidate.keys")
    await accounting.nats.flush()
    policy = policy_pb2.Policy(
        default_tier=model_pb2.TIER_SMALL,
        max_tier=model_pb2.TIER_MEDIUM,
        max_output_tokens=64,
        cache_enabled=True,
        cache_time_to_live=seconds(5),
        outage_mode=policy_pb2.OUTAGE_MODE_GRACE,
        outage_grace=money_to_message(99),
    )

    async def put(key: str) -> policy_pb2.Policy:
        request = budget_pb.SetPolicyRequest(idempotency_key=key, org="acme", policy=policy)
        return (await accounting.operator.budgets.SetPolicy(request)).policy  # type: ignore[no-any-return]

    first = await put("a")
    assert (first.version, (await heard.next_msg(5)).data) == (1, b"org:acme")
    assert (await put("a")) == first
    policy.max_output_tokens = 65
    assert (await put("b")).version == 2
    assert (await put("c")).version == 2
    granted = await authorize(accounting, made.api_key)
    assert granted.policy.max_output_tokens == 65
    assert granted.policy.outage_grace.nano_units == 99
    assert await reason(put("a")) == "IDEMPOTENCY_MISMATCH"


# --- the books


async def test_a_usage_event_is_booked_and_settles_its_reservation(accounting: Accounting) -> None:
    await accounting.set_budget(money=10 * HELD)
    made = await accounting.reserve()
    event = usage_event("q1", made.quote, reservation_id="r1")
    await accounting.publish(event, event)
    verified = await accounting.until_booked(1)
    await accounting.until_settled()
    assert (verified.ledger_total.nano_units, list(verified.violations)) == (70_000, [])
    (state,) = await accounting.state()
    assert (state.spent.nano_units, state.spent_tokens) == (70_000, 700)
    assert (state.reserved.nano_units, state.in_flight) == (0, 0)
    release = admission_pb.ReleaseRequest(reservation_id="r1")
    assert await reason(accounting.tenant.admission.Release(release)) == "RESERVATION_CLOSED"
    assert await reason(accounting.reserve()) == "RESERVATION_CLOSED"


async def test_a_charged_hit_is_booked_settled_and_verified(accounting: Accounting) -> None:
    await accounting.set_budget(money=16_999)
    policy = policy_pb2.Policy(default_tier=model_pb2.TIER_SMALL, max_tier=model_pb2.TIER_LARGE, max_output_tokens=64)
    policy.semantic_cache.hit_price_share = 0.1
    request = budget_pb.SetPolicyRequest(idempotency_key=once(), org="acme", policy=policy)
    stored = (await accounting.operator.budgets.SetPolicy(request)).policy
    assert stored.semantic_cache.hit_price_share == 0.1
    price = policy_pb2.HitPrice(policy_version=stored.version, share_millionths=100_000)
    made = await accounting.reserve("h1", hit_price=price)
    event = usage_event("q1", made.quote, reservation_id="h1", cache_level=model_pb2.CACHE_LEVEL_NEAR, hit_price=price)
    event.usage.Clear()
    event.pool = ""
    await accounting.publish(event, event)
    verified = await accounting.until_booked(1)
    await accounting.until_settled()
    assert (verified.ledger_total.nano_units, list(verified.violations)) == (7_000, [])
    (state,) = await accounting.state()
    assert (state.spent.nano_units, state.spent_tokens, state.reserved.nano_units) == (7_000, 0, 0)
    total = (await accounting.costs()).total
    assert (total.cost.nano_units, total.saved.nano_units, total.cache_hits) == (7_000, 623_000, 1)
    assert await reason(accounting.reserve("h2", hit_price=price)) == "BUDGET_EXCEEDED"


async def test_a_tenant_reads_its_own_books_only(accounting: Accounting) -> None:
    quote = (await accounting.reserve()).quote
    other = usage_event("q9", quote)
    other.principal.org = "globex"
    await accounting.publish(*(usage_event(f"q{n}", quote) for n in range(5)), other)
    await accounting.until_booked(6)
    ledger = accounting.tenant.ledger
    page = await ledger.Query(ledger_pb.QueryRequest(page_size=3))
    assert [t.request_id for t in page.transactions] == ["q4", "q3", "q2"]
    rest = await ledger.Query(ledger_pb.QueryRequest(page_size=3, page_token=page.next_page_token))
    assert ([t.request_id for t in rest.transactions], rest.next_page_token) == (["q1", "q0"], "")
    assert sum(entry.amount.nano_units for entry in page.transactions[0].entries) == 0
    assert not (await ledger.Query(ledger_pb.QueryRequest(request_id="q9"))).transactions
    assert await reason(ledger.Query(ledger_pb.QueryRequest(org="globex"))) == "PERMISSION_DENIED"
    assert await reason(accounting.costs(caller=accounting.tenant, org="globex")) == "PERMISSION_DENIED"
    assert (await accounting.costs(caller=accounting.tenant)).total.requests == 5
    everything = await accounting.operator.ledger.Query(ledger_pb.QueryRequest())
    assert len(everything.transactions) == 6


async def test_the_report_groups_by_everything_and_sums_exactly(accounting: Accounting) -> None:
    quote = (await accounting.reserve()).quote
    large = (await accounting.reserve("r2", model="large")).quote
    events = [
        usage_event("q1", quote, tags={"feature": "help"}),
        usage_event("q2", quote),
        usage_event("q3", large, tier=model_pb2.TIER_LARGE, task=model_pb2.TASK_CODE, tags={"feature": "code"}),
        usage_event("q4", quote, cache_level=model_pb2.CACHE_LEVEL_NEAR),
    ]
    events[2].principal.org = "globex"
    events[3].usage.Clear()
    events[3].pool = ""
    await accounting.publish(*events)
    await accounting.until_booked(4)
    expected = {
        "TENANT": {"acme": 140_000, "globex": 630_000},
        "TEAM": {"search": 770_000},
        "USER": {"ada": 770_000},
        "KEY": {ADA.key_id: 770_000},
        "TIER": {"SMALL": 140_000, "LARGE": 630_000},
        "MODEL": {"small": 140_000, "large": 630_000},
        "POOL": {"cpu-local": 770_000, "": 0},
        "TASK": {"CHAT": 140_000, "CODE": 630_000},
        "CACHE_LEVEL": {"NONE": 770_000, "NEAR": 0},
        "DAY": {datetime.now(UTC).strftime("%Y-%m-%d"): 770_000},
        "TAG": {"help": 70_000, "code": 630_000, "": 70_000},
        "UNSPECIFIED": {"": 770_000},
    }
    assert {f"GROUP_BY_{name}" for name in expected} == set(report_pb.GroupBy.keys())
    for name, rows in expected.items():
        tag: dict[str, Any] = {"tag_key": "feature"} if name == "TAG" else {}
        found = await accounting.costs(report_pb.GroupBy.Value(f"GROUP_BY_{name}"), **tag)
        assert {row.group: row.cost.nano_units for row in found.rows} == rows
        assert [row.cost.nano_units for row in found.rows] == sorted(rows.values(), reverse=True)
        assert found.total.cost.nano_units == 770_000
        assert found.total.counterfactual_cost.nano_units == 4 * 630_000
        assert found.total.saved.nano_units == 4 * 630_000 - 770_000
        assert (found.total.requests, found.total.cache_hits) == (4, 1)
        assert found.total.cost_per_request.nano_units == 192_500
        assert found.total.cost_per_thousand_tokens.nano_units == 366_666
        assert found.total.usage.fresh_input_tokens == 1_500


async def test_a_report_covers_the_time_that_was_asked_for(accounting: Accounting) -> None:
    quote = (await accounting.reserve()).quote
    event = usage_event("q1", quote)
    await accounting.publish(event)
    await accounting.until_booked(1)
    assert (await accounting.costs(start_time=event.end_time)).total.requests == 1
    assert (await accounting.costs(end_time=event.end_time)).total.requests == 0
    empty = await accounting.costs(end_time=event.end_time)
    assert (len(empty.rows), empty.total.cost_per_request.nano_units) == (0, 0)


async def test_a_policy_says_how_to_route_and_what_the_semantic_cache_may_do(accounting: Accounting) -> None:
    made = await new_key(accounting)
    tiers: dict[str, Any] = {"default_tier": model_pb2.TIER_SMALL, "max_tier": model_pb2.TIER_LARGE}
    routings = [
        policy_pb2.RoutingPolicy(
            quality_floor=0.8,
            min_quality_floor=0.6,
            task_models=[policy_pb2.TaskModel(task=model_pb2.TASK_CODE, model="coder")],
            cascade=True,
            session_time_to_live=seconds(600),
            shadow_share=0.02,
        ),
        policy_pb2.RoutingPolicy(spending_target=money_to_message(5_000), min_quality_floor=0.4),
        policy_pb2.RoutingPolicy(fixed_tier=model_pb2.TIER_MEDIUM, min_quality_floor=0.4),
    ]
    semantic = policy_pb2.SemanticCachePolicy(
        max_error_share=0.01, scope=policy_pb2.CACHE_SCOPE_TEAM, hit_price_share=0.333333
    )
    for number, routing in enumerate(routings, 1):
        routing.session_time_to_live.SetInParent()
        policy = policy_pb2.Policy(**tiers, max_output_tokens=64, routing=routing, semantic_cache=semantic)
        request = budget_pb.SetPolicyRequest(idempotency_key=str(number), org="acme", policy=policy)
        stored = (await accounting.operator.budgets.SetPolicy(request)).policy
        assert (stored.version, stored.routing, stored.semantic_cache) == (number, routing, semantic)
        assert (await authorize(accounting, made.api_key)).policy == stored


async def test_what_a_policy_leaves_out_has_the_contracts_default(accounting: Accounting) -> None:
    made = await new_key(accounting)
    policy = policy_pb2.Policy(default_tier=model_pb2.TIER_SMALL, max_tier=model_pb2.TIER_LARGE, max_output_tokens=64)
    request = budget_pb.SetPolicyRequest(idempotency_key="a", org="acme", policy=policy)
    for stored in (
        (await authorize(accounting, made.api_key)).policy,  # none was ever set
        (await accounting.operator.budgets.SetPolicy(request)).policy,
    ):
        assert (stored.routing.quality_floor, stored.routing.min_quality_floor) == (0.7, 0.5)
        assert stored.semantic_cache.max_error_share == 0
        assert stored.semantic_cache.scope == policy_pb2.CACHE_SCOPE_ORG
    policy.routing.quality_floor = 0.3
    request.idempotency_key, request.policy.routing.quality_floor = "b", 0.3
    assert (await accounting.operator.budgets.SetPolicy(request)).policy.routing.min_quality_floor == 0.3


# --- who may call, and what they depend on


async def test_roles(accounting: Accounting) -> None:
    for_operators = {
        "keys": ["CreateKey", "ListKeys", "RevokeKey"],
        "budgets": ["SetBudget", "ListBudgets", "SetPolicy"],
        "prices": ["SetPrice"],
        "ledger": ["Verify"],
    }
    modules = {"keys": key_pb, "budgets": budget_pb, "prices": price_pb, "ledger": ledger_pb}
    for service, methods in for_operators.items():
        for method in methods:
            request = getattr(modules[service], f"{method}Request")()
            for caller in (accounting.tenant, accounting.service):
                call = getattr(getattr(caller, service), method)(request)
                assert await reason(call) == "PERMISSION_DENIED", method
    key = admission_pb.AuthorizeRequest(api_key="x")
    assert await reason(accounting.tenant.admission.Authorize(key)) == "PERMISSION_DENIED"
    assert await reason(accounting.service.admission.Authorize(key)) == "KEY_INVALID"


async def test_every_dependency_is_reported(accounting: Accounting) -> None:
    async def all_up() -> bool:
        names = ("redis", "postgresql", "nats")
        return all(accounting.metric("farthing_dependency_up", dependency=name) == 1 for name in names)

    assert await eventually(all_up)
