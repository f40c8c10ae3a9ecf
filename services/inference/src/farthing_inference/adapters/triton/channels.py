"""One gRPC channel to each Triton server, kept open."""

from __future__ import annotations

from typing import Any, Final

import grpc.aio
from tritonclient.grpc import service_pb2_grpc

from farthing_inference.domain.pools import ServerAddress

# A peer that is dead without a word (a lost network, a stopped machine) is noticed within the sum of the two. gRPC's
# keepalive_timeout alone does not do it: an unanswered ping is given up after ping_timeout, a minute unless it is set.
KEEPALIVE_MS: Final = 10_000
PING_TIMEOUT_MS: Final = 5_000
# A server that comes back is found soon: gRPC's own pause between attempts grows to two minutes.
RECONNECT_FIRST_MS: Final = 100
RECONNECT_MAX_MS: Final = 1_000
MAX_RESPONSE_BYTES: Final = 4 * 1024 * 1024

_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", RECONNECT_FIRST_MS),
    ("grpc.min_reconnect_backoff_ms", RECONNECT_MAX_MS),
    ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
    ("grpc.max_receive_message_length", MAX_RESPONSE_BYTES),
    ("grpc.enable_retries", 0),  # the use case tries elsewhere instead
    ("grpc.enable_http_proxy", 0),
    ("grpc.lb_policy_name", "round_robin"),  # matters only where a name stands for several servers
]


class Channels:
    """Stubs by address; made at first use, closed together."""

    def __init__(self, keepalive_ms: int = KEEPALIVE_MS, ping_timeout_ms: int = PING_TIMEOUT_MS) -> None:
        self._options = [
            *_OPTIONS,
            ("grpc.keepalive_time_ms", keepalive_ms),
            ("grpc.keepalive_timeout_ms", ping_timeout_ms),
            ("grpc.http2.ping_timeout_ms", ping_timeout_ms),
        ]
        self._channels: dict[ServerAddress, grpc.aio.Channel] = {}
        self._stubs: dict[ServerAddress, Any] = {}

    def stub(self, server: ServerAddress) -> Any:
        """The GRPCInferenceService of a server (tritonclient's generated code has no types)."""
        if server not in self._stubs:
            channel = grpc.aio.insecure_channel(server, options=self._options)
            self._channels[server] = channel
            self._stubs[server] = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return self._stubs[server]

    async def close(self) -> None:
        """Close every channel, and with it what still runs."""
        for channel in self._channels.values():
            await channel.close()
        self._channels.clear()
        self._stubs.clear()
