"""What a caller learns of an exception: a FarthingError says its words, anything else says "internal"."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from farthing_kit.errors import FarthingError, InternalError, MalformedMessage
from farthing_kit.interceptors.method import Method
from farthing_kit.telemetry import logs

_log = logs.get("kit.rpc")


class Malformed:
    """Stands for a request whose bytes could not be read. gRPC deserialises outside the handler, where an exception
    would show the caller Python's words; so the deserialiser returns this, and the pipeline refuses it."""


MALFORMED: Final = Malformed()


def guarded(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """A deserialiser that never raises."""

    def read(raw: bytes) -> Any:
        try:
            return deserialize(raw)
        except (DecodeError, ValueError, RecursionError):
            return MALFORMED

    return read


def refuse_malformed(method: Method) -> MalformedMessage:
    """The error for a request that is MALFORMED."""
    return MalformedMessage(
        f"the bytes are not the message that {method.name} takes; check that both sides use the same protos",
        metadata={"method": method.path},
    )


def internal(method: Method, error: BaseException) -> FarthingError:
    """The error that stands for an unexpected exception; the log has the exception under the same id."""
    error_id = f"e_{secrets.token_hex(6)}"
    _log.error("unhandled exception", exception=error, error_id=error_id, method=method.full_name)
    return InternalError("internal", metadata={"error_id": error_id})
