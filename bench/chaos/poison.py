"""Events that cannot be booked, from many organisations, until the dead-letter stream is full, and as many again, while
four callers of other organisations ask.

`poison_stalls` counts what the callers were told and is not in the books half a minute after they stopped.
`poison_kept` are the dead letters that the stream holds, `poison_bytes` their size, of `poison_sent` events.
"""

import argparse
import asyncio
import os
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from google.protobuf.timestamp_pb2 import Timestamp
from nats.aio.client import Client
from nats.js import JetStreamContext

from bench.chaos import books
from bench.chaos.callers import Callers
from farthing.accounting.v1.usage_event_pb2 import UsageEvent
from farthing.type.v1.principal_pb2 import Principal
from farthing.type.v1.usage_pb2 import TokenUsage
from tests.support.mesh import MeshUnderTest

ORGS = ("lantern", "foundry")
AT_ONCE = 4
POISONERS = 300
# An event with the most and the longest labels that there may be: about 10 kB.
LABELS = {f"label-{number}": "x" * 256 for number in range(32)}
DEAD_BYTES = 64 * 1024 * 1024
ROUND = 4
BOOKED_WITHIN_S = 30.0
ROUNDS_WITHIN_S = 300.0
NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(_run(options.seed))


async def _run(seed: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="farthing-chaos-") as folder:
        async with MeshUnderTest(Path(folder) / "mesh") as mesh:
            client = Client()
            await client.connect(f"nats://{mesh.address['nats']}")
            callers = Callers([await mesh.gateway(org, 30.0) for org in ORGS], AT_ONCE, seed)
            async with callers.running():
                sent, kept, size = await _poisoned(client.jetstream(timeout=30.0))
            found = await books.settled(mesh, callers.told, BOOKED_WITHIN_S)
            await client.close()
    return {
        "poison_sent": float(sent),
        "poison_kept": float(kept),
        "poison_bytes": float(size),
        "poison_answered": float(len(callers.told)),
        "poison_retries": float(sum(callers.failures.values())),
        "poison_stalls": float(found.missing(callers.told)),
        "poison_cost_difference_nanos": float(found.difference_nanos(callers.told)),
        "poison_load_average": os.getloadavg()[0],
    }


async def _poisoned(js: JetStreamContext) -> tuple[int, int, int]:
    """Send until the dead letters take no more, and half as much again; how many were sent, how many are kept, and
    their size. An organisation sends in rounds, since what is kept of one has a bound."""
    sent, filled, number = 0, 0, 0
    async with asyncio.timeout(ROUNDS_WITHIN_S):
        while not filled or sent < filled * 1.5:
            for org in range(POISONERS):
                events = [_event(f"poison-{org}", number := number + 1) for _ in range(ROUND)]
                await asyncio.gather(*(js.publish(f"usage.{event.principal.org}", _bytes(event)) for event in events))
                sent += ROUND
            before = (await js.stream_info("DLQ")).state
            if not filled and before.bytes > DEAD_BYTES - len(_bytes(_event("poison-0", 0))) * ROUND * 2:
                filled = sent
    state = (await js.stream_info("DLQ")).state
    return sent, state.messages, state.bytes


def _bytes(event: UsageEvent) -> bytes:
    return event.SerializeToString()


def _event(org: str, number: int) -> UsageEvent:
    """Tokens were used, and nobody says at what price."""
    moment = Timestamp()
    moment.FromDatetime(datetime.now(UTC))
    return UsageEvent(
        request_id=f"q_poison_{number}",
        principal=Principal(org=org, key_id="k_poison"),
        end_time=moment,
        usage=TokenUsage(output_tokens=1),
        tags=LABELS,
    )
