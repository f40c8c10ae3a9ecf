"""Everything around a call on the client, in one wrapper per multicallable.

Sets the deadline to the caller's own or what is left of it less a margin, attaches the signed context and the trace,
and turns a status back into the error that the other side raised.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Generator, Sequence
from types import TracebackType
from typing import Any, Final, Self

import grpc
import grpc.aio
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from farthing_kit import deadline, status
from farthing_kit.context import MAX_CALL_LIFE_S, METADATA_KEY, ContextSigner, RequestContext, current_context
from farthing_kit.errors import DeadlineTooShort, FarthingError
from farthing_kit.interceptors.method import parse_path
from farthing_kit.telemetry import Attr, Telemetry, tracing

# For `timeout=` of a watch that may stay open for ever. Everything else gets the channel's default.
UNBOUNDED: Final = math.inf
MetadataPairs = Sequence[tuple[str, str | bytes]]


class _Caller:
    """What a channel's calls have in common."""

    def __init__(
        self,
        telemetry: Telemetry,
        signer: ContextSigner | None,
        identity: RequestContext | None,
        timeout_s: float,
        stream_timeout_s: float,
    ) -> None:
        self._telemetry = telemetry
        self._signer = signer
        self._identity = identity
        self._children: dict[tuple[str, str, grpc.StatusCode], Any] = {}
        self.timeout_s = timeout_s
        self.stream_timeout_s = stream_timeout_s

    def begin(self, service: str, method: str) -> _Attempt:
        span = self._telemetry.tracer.start_span(
            f"{service}/{method}",
            kind=SpanKind.CLIENT,
            attributes={Attr.RPC_SYSTEM: "grpc", Attr.RPC_SERVICE: service, Attr.RPC_METHOD: method},
            record_exception=False,
            set_status_on_exception=False,
        )
        return _Attempt(self, service, method, span)

    def metadata(
        self, own: MetadataPairs | None, span: Span, path: str, limit_s: float | None
    ) -> list[tuple[str, str | bytes]]:
        pairs: list[tuple[str, str | bytes]] = list(own or ())
        pairs.extend(tracing.headers(span.get_span_context()))
        context = current_context() or self._identity
        if self._signer is not None and context is not None:
            life_s = MAX_CALL_LIFE_S if limit_s is None else min(limit_s, MAX_CALL_LIFE_S)
            pairs.append((METADATA_KEY, self._signer.sign(context, path, lifetime_s=life_s)))
        return pairs

    def observe(self, attempt: _Attempt, code: grpc.StatusCode) -> None:
        key = (attempt.service, attempt.method, code)
        child = self._children.get(key)
        if child is None:
            child = self._telemetry.metrics.client_seconds.labels(attempt.service, attempt.method, code.name)
            self._children[key] = child
        child.observe(time.perf_counter() - attempt.started)


class _Attempt:
    """One call under way; `finish` counts once."""

    __slots__ = ("_caller", "_open", "method", "service", "span", "started")

    def __init__(self, caller: _Caller, service: str, method: str, span: Span) -> None:
        self._caller = caller
        self._open = True
        self.service = service
        self.method = method
        self.span = span
        self.started = time.perf_counter()

    def finish(self, code: grpc.StatusCode) -> None:
        if not self._open:
            return
        self._open = False
        self._caller.observe(self, code)
        if self.span.is_recording():
            self.span.set_attribute(Attr.RPC_STATUS, code.value[0])
            if code is not grpc.StatusCode.OK:
                self.span.set_attribute(Attr.ERROR_TYPE, code.name)
                self.span.set_status(Status(StatusCode.ERROR))
        self.span.end()

    def failed(self, error: grpc.aio.AioRpcError) -> FarthingError:
        self.finish(error.code())
        return status.from_rpc_error(error, self.service)


class _Call:
    """What a unary and a streaming call share: the surface of grpc.aio.Call that is safe to use from outside."""

    def __init__(self, inner: Any, attempt: _Attempt) -> None:
        self._inner = inner
        self._attempt = attempt

    def cancel(self) -> bool:
        """Stop the call; True if it was still running."""
        self._attempt.finish(grpc.StatusCode.CANCELLED)
        return bool(self._inner.cancel())

    def cancelled(self) -> bool:
        return bool(self._inner.cancelled())

    def done(self) -> bool:
        return bool(self._inner.done())

    def time_remaining(self) -> float | None:
        remaining: float | None = self._inner.time_remaining()
        return remaining

    async def initial_metadata(self) -> Any:
        return await self._inner.initial_metadata()

    async def trailing_metadata(self) -> Any:
        return await self._inner.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        code: grpc.StatusCode = await self._inner.code()
        return code

    async def details(self) -> str:
        return str(await self._inner.details())


class UnaryCall(_Call):
    """Await it for the response, or the FarthingError that the other side raised."""

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response().__await__()

    async def _response(self) -> Any:
        try:
            response = await self._inner
        except grpc.aio.AioRpcError as error:
            raise self._attempt.failed(error) from error
        except asyncio.CancelledError:
            self._attempt.finish(grpc.StatusCode.CANCELLED)
            raise
        self._attempt.finish(grpc.StatusCode.OK)
        return response


class StreamCall(_Call):
    """Iterate it for the messages. Leaving early cancels the call when the object is dropped; `async with` or `cancel`
    does so at once."""

    def __init__(self, inner: Any, attempt: _Attempt) -> None:
        super().__init__(inner, attempt)
        self._messages: AsyncIterator[Any] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        if self._messages is None:
            self._messages = self._inner.__aiter__()
        try:
            return await self._messages.__anext__()
        except StopAsyncIteration:
            self._attempt.finish(grpc.StatusCode.OK)
            raise
        except grpc.aio.AioRpcError as error:
            raise self._attempt.failed(error) from error
        except asyncio.CancelledError:
            self._inner.cancel()
            self._attempt.finish(grpc.StatusCode.CANCELLED)
            raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.cancel()

    def __del__(self) -> None:
        self._attempt.finish(grpc.StatusCode.CANCELLED)


class _Multicallable:
    """One method of one channel."""

    def __init__(self, inner: Any, path: str, caller: _Caller, *, streams: bool) -> None:
        self._inner = inner
        self._path = path
        self._service, self._method = parse_path(path)
        self._caller = caller
        self._kind: type[_Call] = StreamCall if streams else UnaryCall
        self._default_s = caller.stream_timeout_s if streams else caller.timeout_s

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: MetadataPairs | None = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> _Call:
        limit_s = self._limit_s(timeout)
        attempt = self._caller.begin(self._service, self._method)
        inner = self._inner(
            request,
            timeout=limit_s,
            metadata=self._caller.metadata(metadata, attempt.span, self._path, limit_s),
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        return self._kind(inner, attempt)

    def _limit_s(self, own_s: float | None) -> float | None:
        limit_s = self._default_s if own_s is None else own_s
        left_s = deadline.remaining_s()
        if left_s is not None:
            if left_s <= deadline.MARGIN_S:
                raise DeadlineTooShort(
                    f"too little of the deadline is left to call {self._service}; allow more time",
                    metadata={
                        "remaining_ms": str(max(0, int(left_s * 1000))),
                        "needed_ms": str(int(deadline.MARGIN_S * 1000)),
                    },
                )
            limit_s = min(limit_s, left_s - deadline.MARGIN_S)
        return None if limit_s == UNBOUNDED else limit_s


class Channel(grpc.aio.Channel):
    """A grpc.aio channel for generated stubs, with the kit's steps around each call."""

    def __init__(
        self,
        inner: grpc.aio.Channel,
        telemetry: Telemetry,
        *,
        signer: ContextSigner | None,
        identity: RequestContext | None,
        timeout_s: float,
        stream_timeout_s: float,
    ) -> None:
        self._inner = inner
        self._caller = _Caller(telemetry, signer, identity, timeout_s, stream_timeout_s)

    def unary_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Multicallable(self._inner.unary_unary(method, *args, **kwargs), method, self._caller, streams=False)

    def unary_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        return _Multicallable(self._inner.unary_stream(method, *args, **kwargs), method, self._caller, streams=True)

    def stream_unary(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Passed through as it is: the mesh has no such methods."""
        return self._inner.stream_unary(method, *args, **kwargs)

    def stream_stream(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Passed through as it is: only reflection uses it."""
        return self._inner.stream_stream(method, *args, **kwargs)

    async def close(self, grace: float | None = None) -> None:
        await self._inner.close(grace)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        return self._inner.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        await self._inner.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        await self._inner.channel_ready()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc_val: BaseException | None, exc_tb: TracebackType | None
    ) -> None:
        await self.close()


def current_trace_id() -> str:
    """The id of the trace at hand, 32 hex digits; empty outside any."""
    context = trace.get_current_span().get_span_context()
    return trace.format_trace_id(context.trace_id) if context.is_valid else ""
