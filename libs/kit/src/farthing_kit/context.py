"""In whose name a request runs: the signed context that every call inside the mesh carries."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, cast

from google.protobuf.message import DecodeError

from farthing.type.v1 import principal_pb2, request_context_pb2
from farthing.type.v1.priority_pb2 import Priority as PriorityMessage
from farthing.type.v1.request_context_pb2 import Role as RoleMessage
from farthing_kit.clock import Clock, SystemClock
from farthing_kit.errors import ContextInvalid

METADATA_KEY: Final = "farthing-context-bin"
MIN_SECRET_BYTES: Final = 32
DEFAULT_LIFETIME_S: Final = 600.0


class Role(IntEnum):
    """In whose name a call is made; values as in farthing.type.v1.Role."""

    TENANT = 1
    OPERATOR = 2
    SERVICE = 3


class Priority(IntEnum):
    """Who is refused last; values as in farthing.type.v1.Priority, and ordered: a greater one matters more."""

    LOW = 1
    NORMAL = 2
    HIGH = 3


@dataclass(frozen=True, slots=True)
class Principal:
    """Who pays, from the widest scope to the narrowest. `key_id` is the public part of the API key."""

    org: str
    team: str = ""
    user: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True)
class RequestContext:
    """What every hop of a request knows about it."""

    request_id: str
    principal: Principal
    role: Role
    priority: Priority = Priority.NORMAL


def new_request_id() -> str:
    """An id that no other request has: "q_" and 128 random bits."""
    return f"q_{secrets.token_hex(16)}"


def service_context(service: str) -> RequestContext:
    """The context of a call that a service makes on its own account, outside any request."""
    return RequestContext(new_request_id(), Principal(org="farthing", user=service), Role.SERVICE)


_current: ContextVar[RequestContext | None] = ContextVar("farthing_context", default=None)


def current_context() -> RequestContext | None:
    """The context of the request at hand; None outside any."""
    return _current.get()


def require_context() -> RequestContext:
    """The context of the request at hand; refuses where there is none."""
    context = _current.get()
    if context is None:
        raise ContextInvalid("this call needs a request context", metadata={"cause": "missing"})
    return context


def set_context(context: RequestContext | None) -> None:
    """Make a context current for the rest of this task. The server does this for each call."""
    _current.set(context)


@contextmanager
def use_context(context: RequestContext) -> Iterator[RequestContext]:
    """Make a context current inside a block: the gateway after authenticating, a worker for the job it took."""
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)


class ContextSigner:
    """Signs and verifies contexts under the secret of the mesh (HMAC-SHA256), each with a moment of expiry."""

    def __init__(self, secret: bytes, *, clock: Clock | None = None, lifetime_s: float = DEFAULT_LIFETIME_S) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the mesh secret has {len(secret)} bytes; it needs at least {MIN_SECRET_BYTES}")
        self._secret = secret
        self._clock = clock or SystemClock()
        self._lifetime_s = lifetime_s
        self._last: tuple[RequestContext, int, bytes] | None = None

    def sign(self, context: RequestContext) -> bytes:
        """The serialised SignedContext of a context, valid from now for the signer's lifetime."""
        expires = int(self._clock.now().timestamp() + self._lifetime_s)
        last = self._last
        if last is not None and last[0] is context and last[1] == expires:
            return last[2]  # a request calls several services in the same second
        message = _to_message(context)
        message.expire_time.seconds = expires
        raw = message.SerializeToString()
        signed = request_context_pb2.SignedContext(context=raw, signature=self._mac(raw)).SerializeToString()
        self._last = (context, expires, signed)
        return signed

    def verify(self, signed: bytes | None) -> RequestContext:
        """The context inside, if the mesh made it and it is still valid; ContextInvalid otherwise."""
        if signed is None:
            raise _invalid("missing")
        try:
            envelope = request_context_pb2.SignedContext.FromString(signed)
        except DecodeError:
            raise _invalid("malformed") from None
        if not hmac.compare_digest(self._mac(envelope.context), envelope.signature):
            raise _invalid("forged")
        message = request_context_pb2.RequestContext.FromString(envelope.context)
        if message.expire_time.seconds <= self._clock.now().timestamp():
            raise _invalid("expired")
        return _from_message(message)

    def _mac(self, raw: bytes) -> bytes:
        return hmac.digest(self._secret, raw, "sha256")


def _invalid(cause: str) -> ContextInvalid:
    return ContextInvalid(
        f"the request context is {cause}; call through the gateway, or sign with this mesh's secret",
        metadata={"cause": cause},
    )


def _to_message(context: RequestContext) -> request_context_pb2.RequestContext:
    principal = context.principal
    return request_context_pb2.RequestContext(
        request_id=context.request_id,
        principal=principal_pb2.Principal(
            org=principal.org, team=principal.team, user=principal.user, key_id=principal.key_id
        ),
        role=cast("RoleMessage.ValueType", int(context.role)),
        priority=cast("PriorityMessage.ValueType", int(context.priority)),
    )


def _from_message(message: request_context_pb2.RequestContext) -> RequestContext:
    principal = message.principal
    try:
        role, priority = Role(message.role), Priority(message.priority or Priority.NORMAL)
    except ValueError:
        raise _invalid("of an unknown role or priority") from None
    payer = Principal(principal.org, principal.team, principal.user, principal.key_id)
    return RequestContext(message.request_id, payer, role, priority)
