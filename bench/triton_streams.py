"""How often Triton ends by itself under many short streams, by the way in which a stream is closed.

    python -m bench.triton_streams ORDER [--streams 200000] [--in-flight 12] [--seed 1]

ORDER is one of `Order`. Each stream asks the local Triton's `echo` model for four words, as inference does. A server
that ends, or answers nobody any more, is counted, and started again; what it failed is counted too. Each order is one
part of bench/results/triton_streams.json.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import grpc.aio
from tritonclient.grpc import service_pb2

from bench import results
from farthing_inference.adapters.triton.commands import STOP, WANT_FINAL, request
from farthing_inference.adapters.triton.stream import is_final
from farthing_inference.adapters.triton.vllm import VllmDialect
from farthing_inference.domain.generation import Sampling
from farthing_kit.local.process import free_port
from farthing_kit.local.triton import Triton

METHOD = "/inference.GRPCInferenceService/ModelStreamInfer"
PROMPT = "to be or not"
LONG = " ".join(["word"] * 400)
CALL_TIMEOUT_S = 10.0
REQUESTS_PER_KEPT_STREAM = 1000
REPORT_EVERY_S = 30.0
OPTIONS = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 1000)]


class Order(Enum):
    """When a stream is closed, from our side."""

    HALF_CLOSE_FIRST = "half-close-first"  # behind the request; then everything is read, up to Triton's own end
    HALF_CLOSE_LAST = "half-close-last"  # when the final response is there; then up to Triton's own end
    CANCEL = "cancel"  # in place of the final response
    LEAVE = "leave"  # cancelled between two words of a long answer, by callers who go away
    STOP = "stop"  # as by `cancel`, but with a command to the model, and up to Triton's own end
    STOP_LONG = "stop-long"  # as by `leave`, with a command
    KEPT = "kept"  # after a thousand requests, one behind the other


# Those who go away: by cancelling the stream, or by telling the model to stop, and reading on.
CANCELLED = (Order.CANCEL, Order.LEAVE)
STOPPED = (Order.STOP, Order.STOP_LONG)
LONG_ANSWERS = (Order.LEAVE, Order.STOP_LONG)


@dataclass
class Count:
    """What has happened so far."""

    requests: int = 0
    failures: int = 0
    aborts: int = 0
    hangs: int = 0


class Soak:
    """Runs requests until there were enough."""

    def __init__(self, order: Order, wanted: int, log: Path) -> None:
        self._order = order
        self._wanted = wanted
        self._port = free_port()
        self._log = log
        self._begun = 0
        self.count = Count()
        self.ends: Counter[int] = Counter()
        self._hangs = False
        self._up = asyncio.Event()

    async def run(self, in_flight: int) -> None:
        """Everything, from the first server to the last request."""
        server = await self._started()
        watch = asyncio.create_task(self._watch(server))
        report = asyncio.create_task(self._report())
        async with grpc.aio.insecure_channel(f"127.0.0.1:{self._port}", options=OPTIONS) as channel:
            open_stream: Any = channel.stream_stream(METHOD)
            await asyncio.gather(*(self._work(open_stream) for _ in range(in_flight)))
        report.cancel()
        watch.cancel()
        await asyncio.wait({watch, report})

    async def _started(self) -> Triton:
        server = await Triton(["echo", "echo-slow"], log=self._log, grpc_port=self._port).start()
        self._up.set()
        return server

    async def _watch(self, server: Triton) -> None:
        """Start the server again whenever it has ended."""
        try:
            while True:
                await asyncio.sleep(0.1)
                if self._hangs:
                    server.process.kill()
                if not server.process.running:
                    self._up.clear()
                    self._note(server)
                    server = await self._started()
        finally:
            await server.stop()

    def _note(self, server: Triton) -> None:
        if self._hangs:
            self.count.hangs += 1
        else:
            self.count.aborts += 1
            self.ends[server.process.exit_code or 0] += 1
        self._hangs = False
        print(json.dumps(asdict(self.count)), dict(self.ends), flush=True)

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_EVERY_S)
            print(json.dumps(asdict(self.count)), flush=True)

    async def _work(self, open_stream: Any) -> None:
        while self._begun < self._wanted:
            await self._up.wait()
            try:
                await self._stream(open_stream(timeout=CALL_TIMEOUT_S if self._order is not Order.KEPT else None))
            except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
                self.count.failures += 1
                late = isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
                self._hangs = self._hangs or (late and self._up.is_set())
                await asyncio.sleep(0.05)

    async def _stream(self, call: Any) -> None:
        identity = ""
        for _ in range(REQUESTS_PER_KEPT_STREAM if self._order is Order.KEPT else 1):
            self._begun += 1
            identity = str(self._begun)
            await call.write(_request(self._order, identity))
            if self._order in (Order.HALF_CLOSE_FIRST, Order.LEAVE):
                await call.done_writing()
            await self._until_final(call)
            self.count.requests += 1
            if self._begun >= self._wanted:
                break
        if self._order in CANCELLED:
            call.cancel()
            return
        if self._order in STOPPED:
            model = "echo-slow" if self._order in LONG_ANSWERS else "echo"
            await call.write(request(model, STOP, identity).SerializeToString())
        await call.done_writing()
        while await call.read() is not grpc.aio.EOF:
            pass

    async def _until_final(self, call: Any) -> None:
        answered = False
        while (raw := await call.read()) is not grpc.aio.EOF:
            response = service_pb2.ModelStreamInferResponse.FromString(raw)
            if is_final(response.infer_response) or (self._order in (*CANCELLED, *STOPPED) and answered):
                return
            answered = True
        raise asyncio.InvalidStateError


def _request(order: Order, identity: str) -> bytes:
    is_long = order in LONG_ANSWERS
    made = service_pb2.ModelInferRequest(model_name="echo-slow" if is_long else "echo", id=identity)
    made.parameters[WANT_FINAL].bool_param = True
    VllmDialect().fill(made, LONG if is_long else PROMPT, Sampling(512))
    raw: bytes = made.SerializeToString()
    return raw


def main() -> None:
    """One order, and its part of the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("order", choices=[order.value for order in Order])
    parser.add_argument("--streams", type=int, default=200_000)
    parser.add_argument("--in-flight", type=int, default=12)
    parser.add_argument("--seed", type=int, default=1, help="for the result file; nothing here is drawn by chance")
    parser.add_argument("--log", type=Path, default=Path(".farthing/triton-streams.log"))
    options = parser.parse_args()
    soak, began = Soak(Order(options.order), options.streams, options.log), time.monotonic()
    asyncio.run(soak.run(options.in_flight))
    name = options.order.replace("-", "_")
    figures = {**asdict(soak.count), "seconds": round(time.monotonic() - began)}
    notes = f"{options.in_flight} in flight. Exit codes of servers that ended: {dict(soak.ends)}."
    path = results.write_part(
        "triton_streams",
        name,
        {f"{name}_{key}": value for key, value in figures.items()},
        seed=options.seed,
        notes=notes,
    )
    print(json.dumps(figures), f"written to {path}")


if __name__ == "__main__":
    main()
