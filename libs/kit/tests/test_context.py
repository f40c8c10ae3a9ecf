"""The signed context: only the mesh can make one, and not for ever."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.type.v1 import priority_pb2, request_context_pb2
from farthing_kit.context import (
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
    assert signer.verify(signer.sign(context)) == context


@given(contexts, st.data())
def test_any_changed_byte_is_noticed(context: RequestContext, data: st.DataObject) -> None:
    signer = ContextSigner(SECRET)
    signed = bytearray(signer.sign(context))
    signed[data.draw(st.integers(0, len(signed) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with contextlib.suppress(ContextInvalid):
        assert signer.verify(bytes(signed)) == context  # a bit that protobuf ignores


def test_a_context_of_another_mesh_is_forged() -> None:
    with pytest.raises(ContextInvalid) as error:
        ContextSigner(SECRET).verify(ContextSigner(b"t" * 32).sign(service_context("gateway")))
    assert cause(error) == "forged"


async def test_a_context_expires() -> None:
    clock = VirtualClock()
    signer = ContextSigner(SECRET, clock=clock, lifetime_s=60)
    signed = signer.sign(service_context("gateway"))
    await clock.advance(59)
    assert signer.verify(signed).role is Role.SERVICE
    await clock.advance(1)
    with pytest.raises(ContextInvalid) as error:
        signer.verify(signed)
    assert cause(error) == "expired"


@pytest.mark.parametrize(("raw", "why"), [(None, "missing"), (b"\xff\xff\xff", "malformed"), (b"", "forged")])
def test_what_is_no_context_is_refused(raw: bytes | None, why: str) -> None:
    with pytest.raises(ContextInvalid) as error:
        ContextSigner(SECRET).verify(raw)
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
