"""Channels to other services: balanced, kept alive, retried within a budget, with the kit's steps around each call."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from typing import Any, Final

import grpc.aio

from farthing_kit.context import ContextSigner, RequestContext
from farthing_kit.credentials import Tls
from farthing_kit.interceptors.client import UNBOUNDED, Channel, current_trace_id
from farthing_kit.telemetry import Telemetry

__all__ = ["UNBOUNDED", "Channel", "channel", "current_trace_id", "service_config", "target_of"]

DEFAULT_TIMEOUT_S: Final = 10.0
DEFAULT_STREAM_TIMEOUT_S: Final = 120.0
MAX_MESSAGE_BYTES: Final = 4 * 1024 * 1024
MAX_METADATA_BYTES: Final = 16 * 1024
RETRY_ATTEMPTS: Final = 3
# A dead peer is noticed within time + timeout, even under a stopped process that keeps its sockets.
KEEPALIVE_TIME_MS: Final = 30_000
KEEPALIVE_TIMEOUT_MS: Final = 5_000
# Services start in any order: the default of up to 20 s between attempts would be felt.
RECONNECT_MIN_MS: Final = 100
RECONNECT_MAX_MS: Final = 2_000


def channel(
    target: str,
    *,
    telemetry: Telemetry | None = None,
    signer: ContextSigner | None = None,
    identity: RequestContext | None = None,
    retry: Sequence[str] = (),
    timeout_s: float = DEFAULT_TIMEOUT_S,
    stream_timeout_s: float = DEFAULT_STREAM_TIMEOUT_S,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    tls: Tls | None = None,
) -> Channel:
    """A channel for generated stubs. Errors come back as FarthingErrors.

    target: "host:port", several with commas, or a gRPC name such as "dns:///cache:8080".
    signer: signs the current RequestContext (or `identity` outside a request) into each call.
    retry: what may be repeated when UNAVAILABLE: "package.Service" or "package.Service/Method", idempotent all.
    timeout_s, stream_timeout_s: deadline of calls that give none; never more than the work at hand has left.
    """
    address = target_of(target)
    options = _options(retry, max_message_bytes)
    if tls is None:
        inner = grpc.aio.insecure_channel(address, options=options)
    else:
        inner = grpc.aio.secure_channel(address, tls.client(), options=options)
    return Channel(
        inner,
        telemetry or Telemetry("client"),
        signer=signer,
        identity=identity,
        timeout_s=timeout_s,
        stream_timeout_s=stream_timeout_s,
    )


def target_of(addresses: str) -> str:
    """The gRPC target of a setting: "a:1,b:2" of IP addresses becomes "ipv4:a:1,b:2" for round robin over all."""
    if "://" in addresses or addresses.startswith(("ipv4:", "ipv6:", "dns:", "unix:")) or "," not in addresses:
        return addresses
    parts = [part.strip().replace("localhost:", "127.0.0.1:") for part in addresses.split(",") if part.strip()]
    for part in parts:
        _require_ip(part, addresses)
    return f"ipv4:{','.join(parts)}"


def service_config(retry: Sequence[str]) -> str:
    """gRPC's service config: round robin; retries of idempotent methods under a budget of about one in ten."""
    config: dict[str, Any] = {
        "loadBalancingConfig": [{"round_robin": {}}],
        "retryThrottling": {"maxTokens": 10, "tokenRatio": 0.1},
    }
    if retry:
        policy = {
            "maxAttempts": RETRY_ATTEMPTS,
            "initialBackoff": "0.02s",
            "maxBackoff": "0.2s",
            "backoffMultiplier": 2,
            "retryableStatusCodes": ["UNAVAILABLE"],
        }
        config["methodConfig"] = [{"name": [_selector(name) for name in retry], "retryPolicy": policy}]
    return json.dumps(config)


def _selector(name: str) -> dict[str, str]:
    service, _, method = name.partition("/")
    return {"service": service, "method": method} if method else {"service": service}


def _options(retry: Sequence[str], max_message_bytes: int) -> list[tuple[str, Any]]:
    return [
        ("grpc.service_config", service_config(retry)),
        ("grpc.enable_retries", 1 if retry else 0),
        ("grpc.max_send_message_length", max_message_bytes),
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.absolute_max_metadata_size", MAX_METADATA_BYTES),
        ("grpc.keepalive_time_ms", KEEPALIVE_TIME_MS),
        ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
        ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),  # without it, a black hole is noticed after a minute
        ("grpc.initial_reconnect_backoff_ms", RECONNECT_MIN_MS),
        ("grpc.min_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.max_reconnect_backoff_ms", RECONNECT_MAX_MS),
        ("grpc.enable_http_proxy", 0),
        ("grpc.lb_policy_name", "round_robin"),
    ]


def _require_ip(part: str, addresses: str) -> None:
    host = part.rpartition(":")[0]
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError(f"{addresses!r}: several addresses must be IPv4; for names use one dns:/// target") from None
