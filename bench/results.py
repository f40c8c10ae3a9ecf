"""The file that every bench leaves behind."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"

# A figure, or a figure with both ends of its 95 % interval.
Figure = float | tuple[float, float, float]


def write(bench: str, figures: Mapping[str, float], *, seed: int, notes: str) -> Path:
    """Write bench/results/<bench>.json: figures by name, with the commit and machine they belong to."""
    return _store(bench, {"bench": bench, **_origin(seed), "figures": dict(figures), "notes": notes})


def write_part(bench: str, part: str, figures: Mapping[str, Figure], *, seed: int, notes: str) -> Path:
    """Write one part of a bench; what other parts have written into the file stays.

    `figures` holds those of all parts by name and `intervals` their 95 % intervals, where a part gives them; `parts`
    says which part a figure comes from, and the commit and machine it belongs to.
    """
    result = _stored(bench)
    for name in result["parts"].get(part, {}).get("figures", []):
        result["figures"].pop(name, None)
        result["intervals"].pop(name, None)
    for name, figure in figures.items():
        value, *interval = figure if isinstance(figure, tuple) else (figure,)
        result["figures"][name] = value
        if interval:
            result["intervals"][name] = interval
    result["parts"][part] = {**_origin(seed), "notes": notes, "figures": sorted(figures)}
    return _store(bench, result)


def _stored(bench: str) -> dict[str, Any]:
    path = RESULTS / f"{bench}.json"
    found: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.exists() else {}
    return {"bench": bench} | {key: found.get(key, {}) for key in ("figures", "intervals", "parts")}


def _store(bench: str, result: Mapping[str, Any]) -> Path:
    path = RESULTS / f"{bench}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    return path


def _origin(seed: int) -> dict[str, Any]:
    return {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seed": seed,
    }


def commit() -> str:
    """The commit that was measured; "+" when the tree had changes."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout
    changed = subprocess.run(["git", "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    return found.strip() + ("+" if changed.strip() else "")


def machine() -> str:
    """Processor, cores and Python, as the system tells them."""
    model = next(
        (line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")), platform.machine()
    )
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def quantile(values: Sequence[float], share_below: float) -> float:
    """A quantile of measured values (nearest rank)."""
    ranked = sorted(values)
    return ranked[min(len(ranked) - 1, int(share_below * len(ranked)))]
