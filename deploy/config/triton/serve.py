"""Becomes tritonserver with the local models.

    python deploy/config/triton/serve.py --models echo,small --grpc-port 8001 [--metrics-port 8002]
        [--host 127.0.0.1] [--otlp-http HOST:PORT] [--build-dir build]

Needs only the standard library. The process is replaced, so signals reach Triton itself; SIGTERM ends it.
"""

import argparse
import os
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
MODELS = HERE / "models"


@dataclass(frozen=True)
class Options:
    """What to serve, and where. `otlp_http`: "host:port" of a collector that gets Triton's own spans."""

    models: tuple[str, ...]
    grpc_port: int
    metrics_port: int = 0
    host: str = "127.0.0.1"
    otlp_http: str = ""
    build: Path = ROOT / "build"


def command(options: Options) -> tuple[list[str], dict[str, str]]:
    """The program with its arguments, and its environment. Exits with one line when something is missing."""
    check(options)
    packages = next((options.build / "triton" / ".venv" / "lib").glob("python3.*")) / "site-packages"
    argv = [
        str(packages / "pytriton" / "tritonserver" / "bin" / "tritonserver"),
        f"--model-repository={MODELS}",
        f"--backend-directory={options.build / 'triton' / 'backends'}",
        # Several servers on one machine share /dev/shm.
        f"--backend-config=python,shm-region-prefix-name=farthing-{options.grpc_port}-",
        "--model-control-mode=explicit",
        *(f"--load-model={model}" for model in options.models),
        f"--grpc-address={options.host}",
        f"--grpc-port={options.grpc_port}",
        "--allow-http=false",
        "--exit-timeout-secs=5",
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
    libraries = [str(packages.parent.parent / "lib"), str(packages / "nvidia_pytriton.libs"), *libpython_folders()]
    inherited: Mapping[str, str] = os.environ
    return {
        **inherited,
        "LD_LIBRARY_PATH": ":".join([*libraries, inherited.get("LD_LIBRARY_PATH", "")]).rstrip(":"),
        "PATH": f"{options.build / 'triton' / '.venv' / 'bin'}:{inherited.get('PATH', '')}",
        "FARTHING_TRITON_WEIGHTS": str(options.build / "models" / "llm"),
    }


def libpython_folders() -> list[str]:
    """The folders that may hold libpython."""
    return [str(folder) for folder in (sysconfig.get_config_var("LIBDIR"),) if folder]


def check(options: Options) -> None:
    """Refuse unknown models, and an installation that is not there."""
    known = sorted(folder.name for folder in MODELS.iterdir() if (folder / "config.pbtxt").exists())
    for model in options.models:
        if model not in known:
            sys.exit(f"triton: there is no model {model!r}; there are {', '.join(known)}")
    if not (options.build / "triton" / "made-from").exists():
        sys.exit(f"triton: {options.build / 'triton'} is not there; make it: python deploy/config/triton/install.py")


def parse(words: Sequence[str] | None = None) -> Options:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", required=True, help="names in the model repository, with commas")
    parser.add_argument("--grpc-port", type=int, required=True)
    parser.add_argument("--metrics-port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--otlp-http", default="", metavar="HOST:PORT")
    parser.add_argument("--build-dir", type=Path, default=ROOT / "build")
    found = parser.parse_args(words)
    models = tuple(name.strip() for name in found.models.split(",") if name.strip())
    return Options(models, found.grpc_port, found.metrics_port, found.host, found.otlp_http, found.build_dir.absolute())


def main() -> None:
    """Become tritonserver."""
    argv, env = command(parse())
    os.execve(argv[0], argv, env)


if __name__ == "__main__":
    main()
