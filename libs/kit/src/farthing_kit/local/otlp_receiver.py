"""A small OTLP receiver for machines without a full collector: spans in over gRPC or HTTP, one JSON file out.

    python -m farthing_kit.local.otlp_receiver --grpc HOST:PORT --http HOST:PORT --file FILE [--forward HOST:PORT]

It speaks OTLP as the collector does (gRPC; HTTP with protobuf or JSON bodies) and writes what the collector's file
exporter writes: one ExportTraceServiceRequest in OTLP JSON a line. Why it exists: the collector that Python packages
carry holds no OTLP receiver. `Collector` prefers a real one where it finds one.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import queue
import re
import signal
import sys
import threading
import zlib
from collections.abc import Iterable, Mapping
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.json_format import MessageToDict, ParseDict, ParseError
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
HTTP_PATH: Final = "/v1/traces"
MAX_BODY_BYTES: Final = 4 * 1024 * 1024
FORWARD_QUEUE: Final = 1_000
FORWARD_TIMEOUT_S: Final = 5.0
STOP_GRACE_S: Final = 2.0
# Requests come before the telling of them.
NICENESS: Final = 5
_KEPT: Final = 4_096
_IDS: Final = ("traceId", "spanId", "parentSpanId")
# The same second wall as in deploy/config/otel-collector/config.yaml: content under names it travels under elsewhere.
FORBIDDEN: Final = re.compile(
    r"^(gen_ai\.(prompt|completion|input|output)(\..*)?|gen_ai\.(input|output)\.messages|gen_ai\.system_instructions"
    r"|gen_ai\.content\..*|.*(prompt|completion)_text|exception\.(message|stacktrace))$"
)


class SpanFile:
    """Appends batches to one file, a line each; safe from several threads."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")
        self._lock = threading.Lock()

    def write(self, line: str) -> None:
        """One batch, in OTLP JSON."""
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._file.close()


class Forwarder(threading.Thread):
    """Sends batches on to another OTLP/gRPC receiver. A full queue drops: telling must not stop the telling."""

    def __init__(self, address: str) -> None:
        super().__init__(name="forward", daemon=True)
        self._address = address.removeprefix("http://")
        self._queue: queue.Queue[bytes | None] = queue.Queue(FORWARD_QUEUE)

    def put(self, raw: bytes) -> None:
        """Queue a serialised ExportTraceServiceRequest."""
        try:
            self._queue.put_nowait(raw)
        except queue.Full:
            print("the queue to the next receiver is full; a batch was dropped", file=sys.stderr)

    def run(self) -> None:
        with grpc.insecure_channel(self._address, options=[("grpc.enable_http_proxy", 0)]) as channel:
            export: Any = channel.unary_unary(EXPORT)
            while (raw := self._queue.get()) is not None:
                try:
                    export(raw, timeout=FORWARD_TIMEOUT_S)
                except grpc.RpcError as error:
                    print(f"a batch could not be forwarded: {error.code().name}", file=sys.stderr)

    def close(self) -> None:
        """Send what is queued, for a moment at most."""
        self._queue.put(None)
        self.join(STOP_GRACE_S)


class Receiver:
    """What both doors do with a batch."""

    def __init__(self, file: SpanFile, forwarder: Forwarder | None) -> None:
        self._file = file
        self._forwarder = forwarder

    def take(self, raw: bytes) -> None:
        """A serialised request. ValueError if it is none."""
        try:
            message = ExportTraceServiceRequest.FromString(raw)
        except DecodeError as error:
            raise ValueError("not an ExportTraceServiceRequest") from error
        self._file.write(to_json(message))
        if self._forwarder is not None:
            self._forwarder.put(raw)

    def take_json(self, raw: bytes) -> None:
        """A request in OTLP JSON. ValueError if it is none."""
        message = from_json(json.loads(raw))
        self._file.write(to_json(message))
        if self._forwarder is not None:
            self._forwarder.put(message.SerializeToString())


def to_json(message: ExportTraceServiceRequest) -> str:
    """OTLP JSON of a request, without forbidden attributes: as protobuf's, but with ids in hex and enums as numbers.

    Text by hand, with attributes that come again kept: MessageToDict and json.dumps take ten times as long, on the
    machine whose speed the spans describe.
    """
    return _object({"resourceSpans": _array(_resource(found) for found in message.resource_spans)})


def _resource(found: ResourceSpans) -> str:
    members = {"scopeSpans": _array(_scope(scope) for scope in found.scope_spans)}
    if found.HasField("resource"):
        members["resource"] = _object({"attributes": _attributes(found.resource.attributes)})
    return _object(members)


def _scope(found: ScopeSpans) -> str:
    members = {"spans": _array(_span(span) for span in found.spans)}
    if found.HasField("scope"):
        members["scope"] = _object({"name": json.dumps(found.scope.name)})
    return _object(members)


def _span(span: Span) -> str:
    members = {
        "traceId": f'"{span.trace_id.hex()}"',
        "spanId": f'"{span.span_id.hex()}"',
        "name": _quoted(span.name),
        "kind": str(span.kind),
        "startTimeUnixNano": f'"{span.start_time_unix_nano}"',
        "endTimeUnixNano": f'"{span.end_time_unix_nano}"',
        "attributes": _attributes(span.attributes),
    }
    if span.parent_span_id:
        members["parentSpanId"] = f'"{span.parent_span_id.hex()}"'
    if span.links:
        members["links"] = _array(
            _object({"traceId": f'"{link.trace_id.hex()}"', "spanId": f'"{link.span_id.hex()}"'}) for link in span.links
        )
    if span.HasField("status"):
        members["status"] = _object({"code": str(span.status.code)})
    return _object(members)


def _attributes(attributes: Iterable[KeyValue]) -> str:
    return _array(_attribute(item.key, item.value) for item in attributes if not _forbidden(item.key))


def _attribute(key: str, value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    if kind == "string_value":
        return _text_attribute(key, value.string_value)
    if kind == "int_value":
        return f'{{"key":{_quoted(key)},"value":{{"intValue":"{value.int_value}"}}}}'
    return json.dumps({"key": key, "value": MessageToDict(value)})


@lru_cache(_KEPT)
def _text_attribute(key: str, text: str) -> str:
    return json.dumps({"key": key, "value": {"stringValue": text}}, separators=(",", ":"))


@lru_cache(_KEPT)
def _quoted(text: str) -> str:
    return json.dumps(text)


@lru_cache(_KEPT)
def _forbidden(key: str) -> bool:
    return FORBIDDEN.match(key) is not None


def _object(members: Mapping[str, str]) -> str:
    return "{" + ",".join([f'"{name}":{value}' for name, value in members.items()]) + "}"


def _array(items: Iterable[str]) -> str:
    return "[" + ",".join(items) + "]"


def from_json(batch: Any) -> ExportTraceServiceRequest:
    """The request that OTLP JSON stands for. ValueError if it stands for none."""
    try:
        for span in _spans(batch):
            for owner in (span, *span.get("links", ())):
                for key in _IDS:
                    if owner.get(key):
                        owner[key] = base64.b64encode(bytes.fromhex(owner[key])).decode()
        return ParseDict(batch, ExportTraceServiceRequest(), ignore_unknown_fields=True)
    except (ParseError, AttributeError, TypeError) as error:
        raise ValueError("not an ExportTraceServiceRequest") from error


def _spans(batch: dict[str, Any]) -> Iterable[dict[str, Any]]:
    for resource in batch.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            yield from scope.get("spans", ())


def http_server(bind: str, receiver: Receiver) -> ThreadingHTTPServer:
    """OTLP/HTTP; GET / says that it is up."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 30

        def do_GET(self) -> None:
            self._answer(200 if self.path == "/" else 404)

        def do_POST(self) -> None:
            length = int(self.headers.get("Content-Length") or -1)
            if self.path != HTTP_PATH or not 0 <= length <= MAX_BODY_BYTES:
                self.close_connection = True
                self._answer(404 if self.path != HTTP_PATH else 413)
                return
            body = self.rfile.read(length)
            try:
                self._take(body)
            except (ValueError, OSError, zlib.error):
                self._answer(400)
                return
            self._answer(200)

        def _take(self, body: bytes) -> None:
            if self.headers.get("Content-Encoding") == "gzip":
                body = zlib.decompressobj(zlib.MAX_WBITS | 16).decompress(body, MAX_BODY_BYTES)
            if "json" in self.headers.get("Content-Type", ""):
                receiver.take_json(body)
            else:
                receiver.take(body)

        def _answer(self, code: int) -> None:
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet: one line a batch helps nobody."""

    host, _, port = bind.rpartition(":")
    return ThreadingHTTPServer((host, int(port)), Handler)


def grpc_server(bind: str, receiver: Receiver) -> grpc.aio.Server:
    """OTLP/gRPC."""

    async def export(raw: bytes, context: Any) -> bytes:
        try:
            receiver.take(raw)
        except ValueError:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "not an ExportTraceServiceRequest")
        return b""

    service, method = EXPORT.lstrip("/").split("/")
    handlers: dict[str, Any] = {method: grpc.unary_unary_rpc_method_handler(export)}
    server = grpc.aio.server(
        options=[("grpc.so_reuseport", 0), ("grpc.max_receive_message_length", MAX_BODY_BYTES)],
        maximum_concurrent_rpcs=64,
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, handlers),))
    server.add_insecure_port(bind)
    return server


async def serve(args: argparse.Namespace) -> None:
    """Until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    file = SpanFile(args.file)
    forwarder = Forwarder(args.forward) if args.forward else None
    receiver = Receiver(file, forwarder)
    over_grpc, over_http = grpc_server(args.grpc, receiver), http_server(args.http, receiver)
    await over_grpc.start()
    threading.Thread(target=over_http.serve_forever, name="http", daemon=True).start()
    if forwarder is not None:
        forwarder.start()
    await stop.wait()
    await over_grpc.stop(STOP_GRACE_S)
    await asyncio.to_thread(over_http.shutdown)
    if forwarder is not None:
        await asyncio.to_thread(forwarder.close)
    file.close()


def main() -> None:
    """Parse the command line and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    os.nice(NICENESS)
    parser.add_argument("--grpc", required=True, help="address for OTLP/gRPC")
    parser.add_argument("--http", required=True, help="address for OTLP/HTTP")
    parser.add_argument("--file", required=True, type=Path, help="the file of spans")
    parser.add_argument("--forward", default="", help="an OTLP/gRPC address that gets every span as well")
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
