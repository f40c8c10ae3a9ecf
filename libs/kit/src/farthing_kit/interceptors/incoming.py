"""The message of a call, read when the caller may call: before that, nothing of it is looked at."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final, cast

import grpc.aio
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError, Message

from farthing_kit.errors import FarthingError, MalformedMessage, MessageTooLarge
from farthing_kit.wire_fields import NotAMessage, has_more_than

# A call whose message does not come keeps its place no longer than this.
WAIT_S: Final = 10.0
Deserialize = Callable[[bytes], Any]


class Incoming:
    """Reads the one message of a call, within bounds of bytes and of fields."""

    def __init__(self, *, max_bytes: int, max_fields: int) -> None:
        self._max_bytes = max_bytes
        self._max_fields = max_fields

    async def read(self, context: Any, deserialize: Deserialize | None, path: str) -> Any:
        """The message; MessageTooLarge, or MalformedMessage."""
        raw = await context.read()
        if raw is grpc.aio.EOF:
            raise _malformed(path, "the call ended without a message; send one")
        return self.message(raw, deserialize, path)

    async def read_soon(self, context: Any, deserialize: Deserialize | None, path: str) -> Any:
        """The message of a caller whom nobody vouches for: it must come soon. Others have their deadline for it."""
        waiting = asyncio.timeout(WAIT_S)
        try:
            async with waiting:
                return await self.read(context, deserialize, path)
        except TimeoutError:
            if not waiting.expired():
                raise
            raise _malformed(path, f"no message came within {WAIT_S:g} s; send it with the call") from None

    def message(self, raw: bytes, deserialize: Deserialize | None, path: str) -> Any:
        """The message of these bytes. Nothing is built of more than the bounds allow."""
        if len(raw) > self._max_bytes:
            raise _too_large(len(raw), self._max_bytes)
        if deserialize is None:
            return raw
        kind = getattr(deserialize, "__self__", None)  # FromString of the message's class, as generated code has it
        try:
            if isinstance(kind, type) and issubclass(kind, Message):
                self._require_few_fields(raw, kind)
            return deserialize(raw)
        except (NotAMessage, DecodeError, ValueError, RecursionError):
            raise _malformed(
                path, "the bytes are no message of it; check that both sides use the same protos"
            ) from None

    def _require_few_fields(self, raw: bytes, kind: type[Message]) -> None:
        if has_more_than(self._max_fields, raw, cast("Descriptor", kind.DESCRIPTOR)):
            raise MessageTooLarge(
                f"the message has more than {self._max_fields} fields, those of its parts included; send fewer",
                metadata={"limit_fields": str(self._max_fields)},
            )


def _too_large(actual: int, limit: int) -> MessageTooLarge:
    return MessageTooLarge(
        f"the message has {actual} bytes, must have at most {limit}; send less",
        metadata={"limit_bytes": str(limit), "actual_bytes": str(actual)},
    )


def _malformed(path: str, what: str) -> FarthingError:
    return MalformedMessage(f"{path}: {what}", metadata={"method": path})
