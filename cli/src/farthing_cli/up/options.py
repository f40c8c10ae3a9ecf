"""What a user may choose about a mesh on this machine, checked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farthing_cli.errors import CliError
from farthing_kit.local.process import free_port, port_taken

SERVERS = ("redis", "redis-cache", "nats", "postgres", "collector", "triton")
SERVICES = ("accounting", "cache", "classifier", "inference", "scheduler", "gateway")
DEFAULT_PORTS = {"gateway": 50051}
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class UpOptions:
    """One mesh: where its state lives, and what was chosen. Without a pools file, that of this checkout."""

    state: Path
    ports: Mapping[str, int] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    otlp: str = ""
    pools_file: Path | None = None


def parse_ports(options: Sequence[str]) -> dict[str, int]:
    """PART=PORT options as a mapping."""
    found = dict(DEFAULT_PORTS)
    for option in options:
        part, _, number = option.partition("=")
        if part not in SERVERS + SERVICES:
            raise CliError(f"--port {option}: there is no part {part!r}; parts are {', '.join(SERVERS + SERVICES)}")
        if not number.isdigit() or int(number) > 65535:
            raise CliError(f"--port {option}: {number!r} is not a port; say --port {part}=50051, or 0 for any free one")
        found[part] = int(number)
    return found


def choose_port(part: str, ports: Mapping[str, int]) -> int:
    """The chosen port of a part, which must be free, or any free one."""
    wanted = ports.get(part, 0)
    if wanted and port_taken(wanted, LOOPBACK):
        raise CliError(
            f"port {wanted} for {part} is taken by another program; "
            f"choose another: --port {part}=PORT (0: any free one)"
        )
    return wanted or free_port(LOOPBACK)
