"""What a caller learns of an exception: a FarthingError says its words, anything else says "internal"."""

from __future__ import annotations

import secrets

from farthing_kit.errors import FarthingError, InternalError
from farthing_kit.interceptors.method import Method
from farthing_kit.telemetry import logs

_log = logs.get("kit.rpc")


def internal(method: Method, error: BaseException) -> FarthingError:
    """The error that stands for an unexpected exception; the log has the exception under the same id."""
    error_id = f"e_{secrets.token_hex(6)}"
    _log.error("unhandled exception", exception=error, error_id=error_id, method=method.full_name)
    return InternalError("internal", metadata={"error_id": error_id})
