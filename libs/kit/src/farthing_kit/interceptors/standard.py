"""Health and reflection: what anyone may ask of a server, apart from the calls that it is for.

They are counted by themselves, so that whoever opens many takes no place from callers; bounded per peer, and the
streams among them in all; and ended at once when the server stops, for streams never end by themselves.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final, NoReturn

import grpc
import grpc.aio

from farthing_kit import status
from farthing_kit.errors import FarthingError, Overloaded, Unavailable
from farthing_kit.interceptors import failures
from farthing_kit.interceptors.incoming import Deserialize, Incoming
from farthing_kit.interceptors.method import Method

# Many clients may come from one host, behind a proxy, and gRPC's client-side health check opens a watch for each
# connection: a refused one would be a server that is down.
MAX_OF_PEER: Final = 64
MAX_STREAMS: Final = 512
# Names of services and symbols are short.
_MAX_BYTES: Final = 4 * 1024
_MAX_FIELDS: Final = 64


class Places:
    """Counts calls by the host that makes them."""

    def __init__(self, of_peer: int, in_all: int | None) -> None:
        self._of_peer = of_peer
        self._in_all = in_all
        self._taken: Counter[str] = Counter()

    @property
    def taken(self) -> int:
        """How many are taken."""
        return self._taken.total()

    @contextmanager
    def place(self, peer: str) -> Iterator[None]:
        """A place while the block runs; Overloaded when there is none."""
        host = peer.rpartition(":")[0]
        full = self._in_all is not None and self.taken >= self._in_all
        if full or self._taken[host] >= self._of_peer:
            raise Overloaded("too many health checks, watches or reflections are open; close some", retry_after_s=1.0)
        self._taken[host] += 1
        try:
            yield
        finally:
            self._taken[host] -= 1
            if not self._taken[host]:
                del self._taken[host]


class Standard:
    """Wraps the handlers of the standard services of one server."""

    def __init__(self, *, of_peer: int = MAX_OF_PEER, streams: int = MAX_STREAMS) -> None:
        self._checks = Places(of_peer, None)
        self._streams = Places(of_peer, streams)
        self._incoming = Incoming(max_bytes=_MAX_BYTES, max_fields=_MAX_FIELDS)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ending = False

    @property
    def streams(self) -> int:
        """How many watches and reflections are open."""
        return self._streams.taken

    def end(self) -> None:
        """End all of them: their callers are told UNAVAILABLE, and ask another replica."""
        self._ending = True
        for task in self._tasks:
            task.cancel()

    def wrap(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler with a place for each call. It reads its messages itself, for the reason that `Pipeline` has."""
        if handler.unary_unary is not None:
            return grpc.stream_unary_rpc_method_handler(self._check(method, handler), None, handler.response_serializer)
        return grpc.stream_stream_rpc_method_handler(self._stream(method, handler), None, handler.response_serializer)

    def _check(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
        async def call(_: Any, context: Any) -> Any:
            with self._running():
                try:
                    with self._checks.place(context.peer()):
                        request = await self._incoming.read_soon(context, handler.request_deserializer, method.path)
                        return await handler.unary_unary(request, context)  # type: ignore[misc]
                except BaseException as error:
                    await self._fail(method, error, context)

        return call

    def _stream(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> Any:
        async def call(_: Any, context: Any) -> None:
            with self._running():
                try:
                    with self._streams.place(context.peer()):
                        async with aclosing(self._answers(method, handler, context)) as answers:
                            async for answer in answers:
                                await context.write(answer)
                except BaseException as error:
                    await self._fail(method, error, context)

        return call

    async def _answers(
        self, method: Method, handler: grpc.RpcMethodHandler[Any, Any], context: Any
    ) -> AsyncGenerator[Any]:
        behavior: Any = handler.stream_stream or handler.unary_stream
        asked = self._requests(method, handler.request_deserializer, context)
        request = asked if handler.stream_stream is not None else await anext(asked)
        async with aclosing(behavior(request, context)) as answers:
            async for answer in answers:
                yield answer

    async def _requests(self, method: Method, read: Deserialize | None, context: Any) -> AsyncIterator[Any]:
        """The first must come soon; whoever asks several may take time between them."""
        yield await self._incoming.read_soon(context, read, method.path)
        while (raw := await context.read()) is not grpc.aio.EOF:
            yield self._incoming.message(raw, read, method.path)

    @contextmanager
    def _running(self) -> Iterator[None]:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)

    async def _fail(self, method: Method, error: BaseException, context: Any) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError | GeneratorExit):
            raise error
        if isinstance(error, asyncio.CancelledError):
            if not self._ending:
                raise error
            error = Unavailable("this replica is stopping; ask another")
        known = error if isinstance(error, FarthingError) else failures.internal(method, error)
        await context.abort(status.code_of(known), known.message, status.trailers(known))
        raise AssertionError("abort returned")
