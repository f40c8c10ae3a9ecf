"""A container's health check: `python -m farthing_kit.health_check 127.0.0.1:8080` exits with 0 when it serves."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

import grpc
from grpc_health.v1 import health_pb2

TIMEOUT_S: Final = 3.0


def state(address: str, service: str = "", timeout_s: float = TIMEOUT_S) -> str:
    """What the server says of a service ("": of itself): SERVING, NOT_SERVING, or the code with which it failed."""
    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=timeout_s)
        except grpc.RpcError as error:
            return str(error.code().name)
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def main(argv: Sequence[str] | None = None) -> int:
    """Ask, say it in one word, and return the exit code."""
    parser = argparse.ArgumentParser(prog="farthing_kit.health_check", description="Ask a gRPC server how it is.")
    parser.add_argument("address", help="such as 127.0.0.1:8080")
    parser.add_argument("--service", default="", help="full name of a service; the whole server without it")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="SECONDS")
    asked = parser.parse_args(argv)
    found = state(asked.address, asked.service, asked.timeout)
    print(found)
    return 0 if found == "SERVING" else 1


if __name__ == "__main__":
    sys.exit(main())
