"""Runs tritonserver with the local models.

    python deploy/config/triton/serve.py --models echo,small --grpc-port 8001 [--metrics-port 8002]
        [--host 127.0.0.1] [--otlp-http HOST:PORT] [--build-dir build]

Needs only the standard library. SIGTERM and SIGINT end the server, at the latest after STOP_AFTER_S. However this
process ends, the server and its models end with it, and leave nothing in shared memory.
"""

import argparse
import ctypes
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODELS = HERE / "models"
REPOSITORY = "FARTHING_TRITON_REPOSITORY"
SHARED_MEMORY = Path("/dev/shm")
LIFELINE_FD = "FARTHING_TRITON_LIFELINE_FD"  # farthing_triton/lifeline.py reads it
TRITON_STOPS_AFTER_S = 6
STOP_AFTER_S = 8.5
PORT_FREE_WITHIN_S = 3.0
PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Options:
    """What to serve, and where. `otlp_http`: "host:port" of a collector that gets Triton's own spans. `repository`: a
    folder with models beside those that are here."""

    models: tuple[str, ...]
    grpc_port: int
    metrics_port: int = 0
    host: str = "127.0.0.1"
    otlp_http: str = ""
    build: Path = ROOT / "build"
    repository: Path | None = None

    @property
    def repositories(self) -> tuple[Path, ...]:
        """Where models are looked for."""
        return (MODELS,) if self.repository is None else (MODELS, self.repository)


def command(options: Options) -> tuple[list[str], dict[str, str]]:
    """The program with its arguments, and its environment. Exits with one line when something is missing."""
    check(options)
    packages = next((options.build / "triton" / ".venv" / "lib").glob("python3.*")) / "site-packages"
    argv = [
        str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        *(f"--model-repository={folder}" for folder in options.repositories),
        f"--backend-directory={options.build / 'triton' / 'backends'}",
        f"--backend-config=python,shm-region-prefix-name={region_prefix(os.getpid())}",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in options.models),
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        "--allow-http=false",
        # Nobody here uses them, and each is a way into this machine.
        f"--grpc-restricted-protocol=shared-memory,trace,logging:closed={secrets.token_urlsafe()}",
        f"--exit-timeout-secs={TRITON_STOPS_AFTER_S}",
        "--disable-auto-complete-config",
        *metrics(options),
        *tracing(options),
    ]
    return argv, environment(options, packages)


def metrics(options: Options) -> list[str]:
    """Prometheus metrics, where a port is given."""
    if not options.metrics_port:
        return ["--allow-metrics=false"]
    return [f"--metrics-address={options.host}", f"--metrics-port={options.metrics_port}"]


def tracing(options: Options) -> list[str]:
    """Spans of queue and compute, for calls whose metadata hold a traceparent."""
    if not options.otlp_http:
        return []
    settings = (
        "mode=opentelemetry",
        "rate=1",
        "level=TIMESTAMPS",
        f"opentelemetry,url={options.otlp_http}/v1/traces",
        "opentelemetry,resource=service.name=triton",
        "opentelemetry,bsp_schedule_delay=500",
    )
    return [f"--trace-config={setting}" for setting in settings]


def environment(options: Options, packages: Path) -> dict[str, str]:
    """Where the backend finds libpython, libraries, its Python (by PATH: it ignores PYTHONPATH), and the weights."""
    inherited: Mapping[str, str] = os.environ
    libraries = [str(packages.parents[1]), str(packages / "nvidia_pytriton.libs"), *libpython_folders(options.build)]
    return {
        # Threads of llama.cpp wait for each other many times per token. Spinning for long is a little faster alone, and
        # 5 times slower beside one other busy program; sleeping at once is 2 times slower alone (README.md).
        "GOMP_SPINCOUNT": "500",
        **{name: value for name, value in inherited.items() if name not in ("PYTHONHOME", "PYTHONPATH")},
        "LD_LIBRARY_PATH": ":".join([*libraries, inherited.get("LD_LIBRARY_PATH", "")]).rstrip(":"),
        "PATH": f"{options.build / 'triton' / '.venv' / 'bin'}:{inherited.get('PATH', '')}",
        "FARTHING_TRITON_WEIGHTS": str(options.build / "models" / "llm"),
    }


def libpython_folders(build: Path) -> list[str]:
    """The folder of the libpython that the environment was made with, which need not be that of this Python."""
    for line in (build / "triton" / ".venv" / "pyvenv.cfg").read_text().splitlines():
        name, _, value = line.partition("=")
        if name.strip() == "home":
            return [str(Path(value.strip()).parent / "lib")]
    return []


def check(options: Options) -> None:
    """Refuse unknown models, and an installation that is not there."""
    known = sorted(config.parent.name for folder in options.repositories for config in folder.glob("*/config.pbtxt"))
    for model in options.models:
        if model not in known:
            sys.exit(f"triton: there is no model {model!r}; there are {', '.join(known)}")
    if not (options.build / "triton" / "made-from").exists():
        sys.exit(f"triton: {options.build / 'triton'} is not there; make it: python deploy/config/triton/install.py")
    try:
        ctypes.CDLL("libgomp.so.1")
    except OSError:
        sys.exit("triton: libgomp.so.1 is missing, which llama.cpp loads; Debian: apt-get install libgomp1")


def parse(words: Sequence[str] | None = None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", required=True, help="names in the model repository, with commas")
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--otlp-http", default="", metavar="HOST:PORT")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build")
    parser.add_argument("--repository", type=Path, default=os.environ.get(REPOSITORY), help=f"also by {REPOSITORY}")
    found = parser.parse_args(words)
    models = tuple(name.strip() for name in found.models.split(",") if name.strip())
    build, repository = found.build_dir.absolute(), found.repository and found.repository.absolute()
    return Options(models, found.grpc_port, found.metrics_port, found.host, found.otlp_http, build, repository)


def region_prefix(pid: int) -> str:
    """How the names of a server's regions in shared memory begin. Several servers on one machine share /dev/shm."""
    return f"farthing-triton-{pid}-"


def sweep() -> None:
    """Remove the regions of servers that are gone: one that was killed could not."""
    for region in SHARED_MEMORY.glob("farthing-triton-*"):
        found = re.match(region_prefix(0).replace("0", r"(\d+)"), region.name)
        if found and (int(found[1]) == os.getpid() or not Path(f"/proc/{found[1]}").exists()):
            region.unlink(missing_ok=True)


def check_port(options: Options) -> None:
    """Refuse a port that is taken: Triton would say so only after loading its models. One that was killed just now may
    need a moment to let go."""
    for port in filter(None, (options.grpc_port, options.metrics_port)):
        give_up = time.monotonic() + PORT_FREE_WITHIN_S
        while (cause := taken(options.host, port)) and time.monotonic() < give_up:
            time.sleep(0.05)
        if cause:
            sys.exit(f"triton: port {port} of {options.host} cannot be had: {cause}; choose another")


def taken(host: str, port: int) -> str:
    """Why a port cannot be had; empty when it can."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error.strerror or type(error).__name__
    return ""


def die_with_parent() -> None:
    """Runs in the new process before Triton: if this one is killed, so is Triton, and a next one can have its port."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def supervise(argv: list[str], env: dict[str, str]) -> int:
    """Run Triton until it ends; its exit code. The models see from the end of a pipe that this process is stopping, or
    gone: Triton itself lets them finish first."""
    lifeline, held = os.pipe()
    child = subprocess.Popen(
        argv, env={**env, LIFELINE_FD: str(lifeline)}, pass_fds=[lifeline], preexec_fn=die_with_parent
    )
    os.close(lifeline)
    ends = [held]

    def stop(*_: object) -> None:
        while ends:
            os.close(ends.pop())
        child.terminate()
        signal.setitimer(signal.ITIMER_REAL, STOP_AFTER_S)

    signal.signal(signal.SIGALRM, lambda *_: child.kill())
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    try:
        return child.wait()
    finally:
        sweep()


def main() -> None:
    """Run it, and end as it ends."""
    options = parse()
    argv, env = command(options)
    check_port(options)
    sweep()
    code = supervise(argv, env)
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
