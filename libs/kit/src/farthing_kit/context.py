"""In whose name a request runs: the signed context that every call inside the mesh carries."""

from __future__ import annotations

import hmac
import math
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
# A context outlives its call by as much as the clocks of two hosts may differ. Calls are verified when they begin, so
# even one that stays open for ever needs no longer life than this.
CLOCK_SLACK_S: Final = 30.0
MAX_CALL_LIFE_S: Final = 60.0


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
    """Signs and verifies contexts under the secret of the mesh (HMAC-SHA256): each for one audience, until one moment.

    Whoever sees a context on its way can do with it what it was made for, for as long as it lives, and nothing else.
    """

    def __init__(self, secret: bytes, *, clock: Clock | None = None) -> None:
        if len(secret) < MIN_SECRET_BYTES:
            raise ValueError(f"the mesh secret has {len(secret)} bytes; it needs at least {MIN_SECRET_BYTES}")
        self._secret = secret
        self._clock = clock or SystemClock()
        self._last: tuple[RequestContext, bytes] | None = None

    def sign(self, context: RequestContext, audience: str, *, lifetime_s: float = MAX_CALL_LIFE_S) -> bytes:
        """The serialised SignedContext of a context: for `audience` alone, and no longer than what carries it lives."""
        bound = request_context_pb2.RequestContext(audience=audience)
        bound.expire_time.seconds = math.ceil(self._clock.now().timestamp() + lifetime_s + CLOCK_SLACK_S)
        raw = self._serialised(context) + bound.SerializeToString()  # two halves of one message
        return request_context_pb2.SignedContext(context=raw, signature=self._mac(raw)).SerializeToString()

    def verify(self, signed: bytes | None, audience: str) -> RequestContext:
        """The context inside, if the mesh made it, for this audience, and it is still valid; ContextInvalid otherwise.

        Signers of earlier versions named no audience; only who knows the secret can leave it out.
        """
        if signed is None:
            raise _invalid("missing")
        try:
            envelope = request_context_pb2.SignedContext.FromString(signed)
        except DecodeError:
            raise _invalid("malformed") from None
        if not hmac.compare_digest(self._mac(envelope.context), envelope.signature):
            raise _invalid("forged")
        message = request_context_pb2.RequestContext.FromString(envelope.context)
        if message.audience and message.audience != audience:
            raise _invalid("made for another call")
        if message.expire_time.seconds <= self._clock.now().timestamp():
            raise _invalid("expired")
        return _from_message(message)

    def _serialised(self, context: RequestContext) -> bytes:
        """What all calls of one request have in common: it calls several services in a row."""
        last = self._last
        if last is None or last[0] is not context:
            last = self._last = (context, _to_message(context).SerializeToString())
        return last[1]

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
