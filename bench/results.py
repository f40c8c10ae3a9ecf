"""The file that every bench leaves behind."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def write(bench: str, figures: Mapping[str, float], *, seed: int, notes: str) -> Path:
    """Write bench/results/<bench>.json: figures by name, with the commit and machine they belong to."""
    path = RESULTS / f"{bench}.json"
    path.parent.mkdir(exist_ok=True)
    result = {
        "bench": bench,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "seed": seed,
        "figures": dict(figures),
        "notes": notes,
    }
    path.write_text(json.dumps(result, indent=2) + "\n")
    return path


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
