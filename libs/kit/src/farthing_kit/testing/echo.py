"""A service of two methods for tests and benches of the kit; its messages are protobuf's own StringValue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.wrappers_pb2 import StringValue

from farthing_kit.server import Service

NAME: Final = "farthing.test.v1.EchoService"
Say = Callable[[StringValue, Any], Awaitable[StringValue]]
Repeat = Callable[[StringValue, Any], AsyncIterator[StringValue]]


class EchoServicer:
    """Says back what it is told: once, or letter by letter. Tests pass other behaviours."""

    def __init__(self, say: Say | None = None, repeat: Repeat | None = None) -> None:
        self._say = say
        self._repeat = repeat

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        return request if self._say is None else await self._say(request, context)

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        if self._repeat is not None:
            async for message in self._repeat(request, context):
                yield message
            return
        for letter in request.value:
            yield StringValue(value=letter)


def add_EchoServicer_to_server(servicer: EchoServicer, server: Any) -> None:
    """As generated code would."""
    handlers = {
        "Say": grpc.unary_unary_rpc_method_handler(servicer.Say, StringValue.FromString, StringValue.SerializeToString),
        "Repeat": grpc.unary_stream_rpc_method_handler(
            servicer.Repeat, StringValue.FromString, StringValue.SerializeToString
        ),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(NAME, handlers),))
    server.add_registered_method_handlers(NAME, handlers)


class EchoStub:
    """As generated code would."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.Say: Any = channel.unary_unary(f"/{NAME}/Say", StringValue.SerializeToString, StringValue.FromString)
        self.Repeat: Any = channel.unary_stream(
            f"/{NAME}/Repeat", StringValue.SerializeToString, StringValue.FromString
        )


def echo_service(say: Say | None = None, repeat: Repeat | None = None, **policy: Any) -> Service:
    """The echo service, to serve with the kit."""
    return Service(NAME, add_EchoServicer_to_server, EchoServicer(say, repeat), **policy)
