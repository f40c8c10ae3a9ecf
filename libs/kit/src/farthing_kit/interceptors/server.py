"""Everything around a call on the server, in one wrapper per method.

In order: count, trace, verify the context, shed, check the deadline, admit, read the message, run; then translate what
was raised, observe, count out. The steps up to the deadline are synchronous. gRPC reads no message before it calls a
method that takes a stream, so every method is registered as one: a call holds a place from its first byte on, and its
message is neither received nor parsed before the caller is known.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from farthing_kit import deadline, status
from farthing_kit.context import METADATA_KEY, ContextSigner, Priority, RequestContext, set_context
from farthing_kit.errors import DeadlineExceeded, DeadlineTooShort, FarthingError, Unavailable
from farthing_kit.interceptors import access, failures
from farthing_kit.interceptors.incoming import Deserialize, Incoming
from farthing_kit.interceptors.method import Method
from farthing_kit.interceptors.shed import Shedder
from farthing_kit.telemetry import Attr, Telemetry, tracing

_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}
_LAST_ANSWER_WAIT_S: Final = 0.1
Behavior = Callable[[Any, Any], Any]


class _Visit:
    """What is known of one call while it runs."""

    __slots__ = ("code", "entered", "messages", "method", "peer", "signed", "span", "started", "timeout_s")

    def __init__(self, method: Method, peer: str, signed: bytes | None, span: Span) -> None:
        self.method = method
        self.peer = peer
        self.signed = signed
        self.span = span
        self.started = time.perf_counter()
        self.entered = False
        self.timeout_s: float | None = None
        self.code = grpc.StatusCode.OK
        self.messages = 0


class Pipeline:
    """Wraps the handlers of one server, and knows how many of them are running."""

    def __init__(
        self,
        telemetry: Telemetry,
        *,
        verifier: ContextSigner | None,
        shedder: Shedder,
        incoming: Incoming,
        min_deadline_s: float,
        default_deadline_s: float,
    ) -> None:
        self._telemetry = telemetry
        self._tracer = telemetry.tracer
        self._verifier = verifier
        self._shedder = shedder
        self._incoming = incoming
        self._min_deadline_s = min_deadline_s
        self._default_deadline_s = default_deadline_s
        self._children: dict[tuple[str, str, grpc.StatusCode], Any] = {}
        self._in_progress: Counter[str] = Counter()
        self._of_connection: Counter[str] = Counter()
        self._long_lived: set[asyncio.Task[Any]] = set()
        self._ending = False
        self._idle = asyncio.Event()
        self._idle.set()
        self.running = 0

    def end_long_lived(self) -> None:
        """End the watches: their callers are told UNAVAILABLE, and watch another replica."""
        self._ending = True
        for task in self._long_lived:
            task.cancel()

    async def wait_idle(self, timeout_s: float) -> bool:
        """Wait until no handler runs; False if some still do after `timeout_s`. `Server.stop` of gRPC does not wait for
        handlers that aborted (grpc#37239), so the kit counts its own."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()
        except TimeoutError:
            return False
        return True

    def wrap(self, method: Method, handler: grpc.RpcMethodHandler[Any, Any]) -> grpc.RpcMethodHandler[Any, Any]:
        """The handler with every step around it. Methods that take a stream of requests are refused."""
        gauge = self._telemetry.metrics.rpc_in_flight.labels(method.service)
        gauge.set_function(partial(self._in_progress.__getitem__, method.service))
        if handler.request_streaming:
            raise ValueError(f"{method.full_name} takes a stream of requests, which the kit does not support")
        if handler.response_streaming:
            behavior = self._stream(method, _required(handler.unary_stream), handler.request_deserializer)
            return grpc.stream_stream_rpc_method_handler(behavior, None, handler.response_serializer)
        behavior = self._unary(method, _required(handler.unary_unary), handler.request_deserializer)
        return grpc.stream_unary_rpc_method_handler(behavior, None, handler.response_serializer)

    def _unary(self, method: Method, behavior: Behavior, deserialize: Deserialize | None) -> Behavior:
        async def call(_: Any, context: Any) -> Any:
            visit = self._enter(method, context)
            try:
                self._admit(visit, context)
                async with asyncio.timeout(visit.timeout_s):
                    response = await behavior(await self._request(method, deserialize, context), context)
                visit.code = _code(context)
                await self._let_others_be_read(visit, context)
                return response
            except BaseException as error:
                await self._fail(visit, error, context)
            finally:
                self._leave(visit)

        return call

    def _stream(self, method: Method, behavior: Behavior, deserialize: Deserialize | None) -> Behavior:
        generates = inspect.isasyncgenfunction(behavior)

        async def call(_: Any, context: Any) -> None:
            visit = self._enter(method, context)
            try:
                self._admit(visit, context)
                async with asyncio.timeout(visit.timeout_s):
                    request = await self._request(method, deserialize, context)
                    if generates:
                        await _relay(behavior(request, context), context, visit)
                    else:
                        await behavior(request, context)
                visit.code = _code(context)
                await self._let_others_be_read(visit, context)
            except BaseException as error:
                await self._fail(visit, error, context)
            finally:
                self._leave(visit)

        return call

    async def _request(self, method: Method, deserialize: Deserialize | None, context: Any) -> Any:
        if method.admit is not None:
            await method.admit(context)
        read = self._incoming.read_soon if method.roles is None else self._incoming.read
        return await read(context, deserialize, method.path)

    def _enter(self, method: Method, context: Any) -> _Visit:
        peer = context.peer()
        self.running += 1
        self._in_progress[method.service] += 1
        self._of_connection[peer] += 1
        self._idle.clear()
        signed = parent = None
        states: list[str] = []
        for key, value in context.invocation_metadata():
            if key == METADATA_KEY:
                signed = value
            elif key == tracing.TRACEPARENT:
                parent = value
            elif key == tracing.TRACESTATE:
                states.append(value)
        span = self._tracer.start_span(
            method.full_name,
            context=tracing.decode(parent, ",".join(states)),
            kind=SpanKind.SERVER,
            attributes={Attr.RPC_SYSTEM: "grpc", Attr.RPC_SERVICE: method.service, Attr.RPC_METHOD: method.name},
            record_exception=False,
            set_status_on_exception=False,
        )
        # gRPC runs each call in a task of its own, so what is set here ends with the call: nothing to detach.
        otel_context.attach(trace.set_span_in_context(span))
        return _Visit(method, peer, signed, span)

    def _admit(self, visit: _Visit, context: Any) -> None:
        method = visit.method
        caller = access.check(method, visit.signed, self._verifier)
        set_context(caller)
        if caller is not None:
            _describe(visit.span, caller)
        if method.long_lived:
            self._watch(method)
        else:
            self._shed(visit, caller.priority if caller is not None else Priority.NORMAL)
        self._check_deadline(visit, context.time_remaining())

    def _watch(self, method: Method) -> None:
        if self._ending:
            raise _stopping(method)
        task = asyncio.current_task()
        assert task is not None
        self._long_lived.add(task)

    def _shed(self, visit: _Visit, priority: Priority) -> None:
        try:
            self._shedder.enter(priority)
        except FarthingError:
            self._telemetry.metrics.rpc_shed.labels(visit.method.service, priority.name).inc()
            raise
        visit.entered = True

    def _check_deadline(self, visit: _Visit, remaining_s: float | None) -> None:
        if remaining_s is None:
            visit.timeout_s = None if visit.method.long_lived else self._default_deadline_s
            deadline.set_remaining(visit.timeout_s)
            return
        if remaining_s < self._min_deadline_s:
            raise _too_short(remaining_s, self._min_deadline_s)
        deadline.set_remaining(remaining_s)

    async def _fail(self, visit: _Visit, error: BaseException, context: Any) -> NoReturn:
        if isinstance(error, grpc.aio.AbortError):
            visit.code = _code(context)
            raise error
        if isinstance(error, asyncio.CancelledError) and self._ending and visit.method.long_lived:
            error = _stopping(visit.method)
        if isinstance(error, asyncio.CancelledError | GeneratorExit):
            visit.code = grpc.StatusCode.DEADLINE_EXCEEDED if _expired() else grpc.StatusCode.CANCELLED
            raise error
        known = _known(visit.method, error)
        visit.code = status.code_of(known)
        visit.span.set_attribute(Attr.REASON, known.reason_name)
        if "error_id" in known.metadata:
            visit.span.set_attribute(Attr.ERROR_ID, known.metadata["error_id"])
        await self._let_others_be_read(visit, context)
        await context.abort(visit.code, known.message, status.trailers(known))
        raise AssertionError("abort returned")

    async def _let_others_be_read(self, visit: _Visit, context: Any) -> None:
        """While the server stops, the last answer of a connection waits a little: with it gRPC closes the connection,
        and what the caller sent and nobody read turns that into a reset, which takes the answers before it along."""
        if self._ending and self._of_connection[visit.peer] == 1:
            left_s = context.time_remaining()
            await asyncio.sleep(_LAST_ANSWER_WAIT_S if left_s is None else min(_LAST_ANSWER_WAIT_S, left_s / 2))

    def _leave(self, visit: _Visit) -> None:
        if visit.entered:
            self._shedder.leave()
        if visit.method.long_lived:
            self._long_lived.discard(asyncio.current_task())
        self._observe(visit)
        self._in_progress[visit.method.service] -= 1
        self._of_connection[visit.peer] -= 1
        if not self._of_connection[visit.peer]:
            del self._of_connection[visit.peer]
        self.running -= 1
        if self.running == 0:
            self._idle.set()

    def _observe(self, visit: _Visit) -> None:
        method, span, code = visit.method, visit.span, visit.code
        key = (method.service, method.name, code)
        child = self._children.get(key)
        if child is None:
            child = self._telemetry.metrics.rpc_seconds.labels(method.service, method.name, code.name)
            self._children[key] = child
        child.observe(time.perf_counter() - visit.started)
        if span.is_recording():
            span.set_attribute(Attr.RPC_STATUS, code.value[0])
            if visit.messages:
                span.set_attribute(Attr.RPC_MESSAGES, visit.messages)
            if code is not grpc.StatusCode.OK:
                span.set_attribute(Attr.ERROR_TYPE, code.name)
                span.set_status(Status(StatusCode.ERROR))
        span.end()


async def _relay(messages: Any, context: Any, visit: _Visit) -> None:
    async with aclosing(messages):
        async for message in messages:
            await context.write(message)
            visit.messages += 1


def _describe(span: Span, caller: RequestContext) -> None:
    if span.is_recording():
        span.set_attributes(
            {
                Attr.REQUEST_ID: caller.request_id,
                Attr.ORG: caller.principal.org,
                Attr.ROLE: caller.role.name,
                Attr.PRIORITY: caller.priority.name,
            }
        )


def _known(method: Method, error: BaseException) -> FarthingError:
    if isinstance(error, FarthingError):
        return error
    if isinstance(error, TimeoutError) and _expired():
        return DeadlineExceeded("the deadline passed while the work ran; allow more time")
    return failures.internal(method, error)


def _too_short(remaining_s: float, needed_s: float) -> DeadlineTooShort:
    return DeadlineTooShort(
        "too little of the deadline is left to start; allow more time",
        metadata={"remaining_ms": str(int(remaining_s * 1000)), "needed_ms": str(int(needed_s * 1000))},
    )


def _stopping(method: Method) -> Unavailable:
    return Unavailable("this replica is stopping; call again", metadata={"service": method.service})


def _expired() -> bool:
    left = deadline.remaining_s()
    return left is not None and left <= 0


def _code(context: Any) -> grpc.StatusCode:
    code = context.code()
    if isinstance(code, grpc.StatusCode):
        return code
    return _CODES.get(code or 0, grpc.StatusCode.UNKNOWN)


def _required(behavior: Any) -> Behavior:
    assert behavior is not None
    return behavior  # type: ignore[no-any-return]
