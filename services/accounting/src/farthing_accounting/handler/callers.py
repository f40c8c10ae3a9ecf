"""In whose name a call is made, and what of others' it may see."""

from __future__ import annotations

from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.principal import MAX_USER_CHARS, Principal, is_name
from farthing_kit.context import RequestContext, Role, require_context
from farthing_kit.errors import PermissionDenied


def paying() -> Principal:
    """The principal of the signed context: who reserves."""
    found = require_context().principal
    if not is_name(found.org) or (found.team and not is_name(found.team)) or len(found.user) > MAX_USER_CHARS:
        raise InvalidArgument.field("farthing-context-bin", "names no valid principal, must name an organisation")
    return Principal(found.org, found.team, found.user, found.key_id)


def visible_org(asked: str, method: str) -> str:
    """The organisation whose books a caller gets to see: a tenant its own; others the one they ask for, or all ("")."""
    context = require_context()
    if asked and not is_name(asked):
        raise InvalidArgument.field("org", "must be 1 to 64 characters of [a-z0-9-]")
    if context.role is not Role.TENANT:
        return asked
    own = context.principal.org
    if not own or asked not in ("", own):
        raise _not_yours(context, method)
    return own


def _not_yours(context: RequestContext, method: str) -> PermissionDenied:
    return PermissionDenied(
        "a tenant may read its own organisation only; leave org empty",
        metadata={"role": context.role.name, "method": method},
    )
