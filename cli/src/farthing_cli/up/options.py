"""What a user may choose about a mesh on this machine, checked."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from farthing_cli.errors import CliError, InputError
from farthing_kit import numbers
from farthing_kit.local.process import free_port, port_taken

SERVERS = ("redis", "redis-cache", "nats", "postgres", "collector", "triton")
SERVICES = ("accounting", "cache", "classifier", "inference", "scheduler", "gateway")
DEFAULT_PORTS = {"gateway": 50051}
LOOPBACK = "127.0.0.1"
MAX_PORT = 65_535
_MODEL = re.compile(r"[A-Za-z0-9_.-]{1,64}", re.ASCII)


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
            raise InputError(f"--port {option}: there is no part {part!r}; parts are {', '.join(SERVERS + SERVICES)}")
        try:
            found[part] = numbers.whole(number, 0, MAX_PORT)
        except ValueError:
            must = f"say --port {part}=50051, or 0 for any free one"
            raise InputError(f"--port {option}: {number!r} is not a port; {must}") from None
    return found


def parse_models(names: str) -> tuple[str, ...]:
    """The models that Triton loads, of "small,large"."""
    models = tuple(name.strip() for name in names.split(","))
    if not all(map(_MODEL.fullmatch, models)):
        raise InputError(f"--models {names}: must be names of models with commas between them, such as small,large")
    return models


def choose_port(part: str, ports: Mapping[str, int]) -> int:
    """The chosen port of a part, which must be free, or any free one."""
    wanted = ports.get(part, 0)
    if wanted and port_taken(wanted, LOOPBACK):
        raise CliError(
            f"port {wanted} for {part} is taken by another program; "
            f"choose another: --port {part}=PORT (0: any free one)"
        )
    return wanted or free_port(LOOPBACK)
