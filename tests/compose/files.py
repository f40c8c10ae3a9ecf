"""The compose files as a container engine reads them: variables filled in from .env, overlays laid over."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import yaml

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "deploy" / "compose"
_VARIABLE: Final = re.compile(r"\$\{([A-Z_]+)(?::-([^}]*))?\}")


def compose(*names: str) -> dict[str, Any]:
    """These files of deploy/compose as one."""
    merged: dict[str, Any] = {}
    env = env_file()
    for name in names:
        merged = _laid_over(merged, _filled(yaml.safe_load((FOLDER / name).read_text()), env))
    return merged


def env_file() -> dict[str, str]:
    """The variables of .env."""
    lines = (FOLDER / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def dockerfile() -> str:
    """deploy/Dockerfile, with continued lines joined and comments left out."""
    text = (ROOT / "deploy" / "Dockerfile").read_text().replace("\\\n", " ")
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def image_environment(target: str) -> dict[str, str]:
    """What the ENV lines of a stage set, with those of the stages that it stands on."""
    stages = {
        found[2]: (found[1], found[3])
        for found in re.finditer(r"^FROM (\S+) AS (\S+)$(.*?)(?=^FROM |\Z)", dockerfile(), re.MULTILINE | re.DOTALL)
    }
    if target not in stages:
        return {}
    base, text = stages[target]
    lines = re.findall(r"^ENV (.*)$", text, flags=re.MULTILINE)
    return {**image_environment(base), **dict(pair.split("=", 1) for line in lines for pair in line.split())}


def _filled(value: Any, env: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _filled(item, env) for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, env) for item in value]
    if isinstance(value, str):
        return _VARIABLE.sub(lambda found: env[found[1]] if found[2] is None else env.get(found[1], found[2]), value)
    return value


def _laid_over(below: Any, above: Any) -> Any:
    """Compose's rule, as far as our files use it: mappings merge, lists add up, anything else is replaced."""
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{key: _laid_over(below[key], item) if key in below else item for key, item in above.items()}}
    if isinstance(below, list) and isinstance(above, list):
        return [*below, *above]
    return above
