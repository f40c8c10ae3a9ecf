"""The signed context: only the mesh can make one, and not for ever."""

import contextlib
import hmac
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.type.v1 import principal_pb2, priority_pb2, request_context_pb2
from farthing_kit.context import (
    CLOCK_SLACK_S,
    ContextSigner,
    Principal,
    Priority,
    RequestContext,
    Role,
    current_context,
    require_context,
    service_context,
    use_context,
)
from farthing_kit.errors import ContextInvalid
from farthing_kit.testing.clock import VirtualClock

SECRET = b"s" * 32
HERE = "/farthing.accounting.v1.KeyService/CreateKey"
contexts = st.builds(
    RequestContext,
    st.text(min_size=1, max_size=40),
    st.builds(Principal, st.text(max_size=20), st.text(max_size=20), st.text(max_size=20), st.text(max_size=20)),
    st.sampled_from(Role),
    st.sampled_from(Priority),
)


def cause(error: pytest.ExceptionInfo[ContextInvalid]) -> str:
    return error.value.metadata["cause"]


@given(contexts)
def test_a_signed_context_comes_back_as_it_was(context: RequestContext) -> None:
    signer = ContextSigner(SECRET)
    assert signer.verify(signer.sign(context, HERE), HERE) == context


@given(contexts, st.data())
def test_any_changed_byte_is_noticed(context: RequestContext, data: st.DataObject) -> None:
    signer = ContextSigner(SECRET)
    signed = bytearray(signer.sign(context, HERE))
    signed[data.draw(st.integers(0, len(signed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ContextInvalid):
        assert signer.verify(bytes(signed), HERE) == context  # a bit that protobuf ignores


def test_a_context_of_another_mesh_is_forged() -> None:
    with pytest.raises(ContextInvalid) as error:
        ContextSigner(SECRET).verify(ContextSigner(b"t" * 32).sign(service_context("gateway"), HERE), HERE)
    assert cause(error) == "forged"


async def test_a_context_expires_with_what_carries_it_and_what_clocks_may_differ() -> None:
    clock = VirtualClock()
    signer = ContextSigner(SECRET, clock=clock)
    signed = signer.sign(service_context("gateway"), HERE, lifetime_s=2.5)
    await clock.advance(2.5 + CLOCK_SLACK_S - 0.1)
    assert signer.verify(signed, HERE).role is Role.SERVICE
    await clock.advance(1)
    with pytest.raises(ContextInvalid) as error:
        signer.verify(signed, HERE)
    assert cause(error) == "expired"


def test_a_context_is_good_for_its_audience_alone() -> None:
    signer = ContextSigner(SECRET)
    with pytest.raises(ContextInvalid) as error:
        signer.verify(signer.sign(service_context("gateway"), "/farthing.cache.v1.CacheService/Purge"), HERE)
    assert cause(error) == "made for another call"


def test_contexts_of_one_request_for_several_calls_differ_in_nothing_but_their_audience() -> None:
    signer, context, other = ContextSigner(SECRET), service_context("gateway"), service_context("cache")
    calls = [(context, "/a/A"), (context, "/b/B"), (other, "/a/A"), (context, "/a/A")]
    for asked, audience in calls:
        assert signer.verify(signer.sign(asked, audience), audience) == asked


def earlier_signed(context: RequestContext, expires: datetime) -> bytes:
    """As signers of earlier versions did: for 600 s, for any audience."""
    message = request_context_pb2.RequestContext(
        request_id=context.request_id,
        principal=principal_pb2.Principal(org=context.principal.org, user=context.principal.user),
        role=request_context_pb2.ROLE_SERVICE,
        priority=priority_pb2.PRIORITY_NORMAL,
    )
    message.expire_time.FromDatetime(expires)
    raw = message.SerializeToString()
    signature = hmac.digest(SECRET, raw, "sha256")
    return request_context_pb2.SignedContext(context=raw, signature=signature).SerializeToString()


def test_in_a_rolling_upgrade_earlier_signers_are_understood_and_earlier_verifiers_understand() -> None:
    clock, context = VirtualClock(), service_context("gateway")
    signer = ContextSigner(SECRET, clock=clock)
    assert signer.verify(earlier_signed(context, clock.now() + timedelta(seconds=600)), HERE) == context
    # An earlier verifier checks the signature over the same bytes, and the expiry in the same field.
    envelope = request_context_pb2.SignedContext.FromString(signer.sign(context, HERE))
    assert envelope.signature == hmac.digest(SECRET, envelope.context, "sha256")
    seen = request_context_pb2.RequestContext.FromString(envelope.context)
    assert (seen.request_id, seen.principal.user) == (context.request_id, "gateway")
    assert seen.expire_time.ToDatetime(UTC) > clock.now()


@pytest.mark.parametrize(("raw", "why"), [(None, "missing"), (b"\xff\xff\xff", "malformed"), (b"", "forged")])
def test_what_is_no_context_is_refused(raw: bytes | None, why: str) -> None:
    with pytest.raises(ContextInvalid) as error:
        ContextSigner(SECRET).verify(raw, HERE)
    assert cause(error) == why


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 32"):
        ContextSigner(b"short")


def test_the_words_are_those_of_the_contracts() -> None:
    for role in Role:
        assert request_context_pb2.Role.Value(f"ROLE_{role.name}") == int(role)
    for priority in Priority:
        assert priority_pb2.Priority.Value(f"PRIORITY_{priority.name}") == int(priority)
    assert Priority.LOW < Priority.NORMAL < Priority.HIGH


def test_a_context_is_current_inside_its_block_only() -> None:
    with pytest.raises(ContextInvalid):
        require_context()
    with use_context(service_context("planner")) as context:
        assert require_context() is context
    assert current_context() is None
