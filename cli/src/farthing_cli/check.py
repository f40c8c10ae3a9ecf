"""`farthing config check`: every FARTHING_ setting that is unknown, wrong, or unsafe, over all services at once."""

import importlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

from farthing_cli import env_file, mesh
from farthing_kit import config
from farthing_kit.settings import ServiceSettings

SERVICES = ("accounting", "cache", "classifier", "gateway", "inference", "scheduler")
# Read by this command, by the local servers, or by the pools file; by no service.
OWN = (
    "FARTHING_STATE",
    "FARTHING_GATEWAY",
    "FARTHING_ACCOUNTING",
    "FARTHING_CLASSIFIER",
    "FARTHING_CACHE",
    "FARTHING_API_KEY",
    "FARTHING_CONFIG_DIR",
    "FARTHING_OTELCOL",
    "FARTHING_TRITON_LOCAL",
)


def environment(file: Path | None) -> dict[str, str]:
    """The settings to check: those of this process, or those of a file alone."""
    return dict(os.environ) if file is None else env_file.read(file)


def findings(env: Mapping[str, str]) -> list[str]:
    """One line for each setting that needs a hand; empty when all is well. Settings that are not there are not missed
    here: a service that needs one says so when it starts."""
    classes = {service: settings_class(service) for service in SERVICES}
    found = config.unknown(env, classes, OWN)
    for service, cls in classes.items():
        found += [problem for problem in config.problems(cls, service, env) if problem.kind != "missing"]
        found += config.unsafe(cls, service, env)
    found += _own(env)
    return sorted({f"{problem.kind}: {problem}" for problem in found} | _one_redis(env))


def _own(env: Mapping[str, str]) -> Iterator[config.Problem]:
    """What is wrong with the variables that this command reads."""
    for name, read in mesh.VARIABLES.items():
        try:
            if text := env.get(name, "").strip():
                read(text)
        except ValueError as error:
            yield config.Problem(name, "invalid", str(error))


def _one_redis(env: Mapping[str, str]) -> set[str]:
    """Whether accounting and the cache are sent to one Redis: its databases share one memory."""
    common = env.get("FARTHING_REDIS_URL", "")
    try:
        servers = {
            urlsplit(env.get(f"FARTHING_{service}_REDIS_URL", common))._replace(path="", query="").geturl()
            for service in ("ACCOUNTING", "CACHE")
        }
    except ValueError as error:
        return {f"invalid: FARTHING_REDIS_URL: is no address of a Redis: {error}"}
    if len(servers) > 1 or servers == {""}:
        return set()
    return {
        "unsafe: FARTHING_CACHE_REDIS_URL names accounting's Redis: answers could fill it, and then nobody with a "
        "budget is served; give the cache a server of its own"
    }


def settings_class(service: str) -> type[ServiceSettings]:
    """The settings of a service."""
    module: ModuleType = importlib.import_module(f"farthing_{service}.config")
    own = [each for each in vars(module).values() if isinstance(each, type) and issubclass(each, ServiceSettings)]
    return next(each for each in own if each is not ServiceSettings and each.__module__ == module.__name__)
