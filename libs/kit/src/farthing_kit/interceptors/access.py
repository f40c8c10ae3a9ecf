"""Who may call a method: verifies the signed context and holds it against the method's roles."""

from __future__ import annotations

from farthing_kit.context import ContextSigner, RequestContext
from farthing_kit.errors import ContextInvalid, PermissionDenied
from farthing_kit.interceptors.method import Method


def check(method: Method, signed: bytes | None, verifier: ContextSigner | None) -> RequestContext | None:
    """The context of a call; None only where the method is open to anyone and the call brought none."""
    if method.roles is None:
        return None
    if verifier is None:
        raise ContextInvalid("this server has no mesh secret", metadata={"cause": "no secret"})
    context = verifier.verify(signed, method.path)
    if context.role not in method.roles:
        raise PermissionDenied(
            f"the role {context.role.name} may not call {method.name}; "
            f"{' or '.join(sorted(role.name for role in method.roles))} may",
            metadata={"role": context.role.name, "method": method.name},
        )
    return context
