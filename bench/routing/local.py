"""The bundled graded questions on the mesh of `farthing up`: what routing costs and what share is right.

    python -m bench.routing local

Before and after the mesh has learnt what the local models can do, with the commands that a user has. The local models
are tiny, and the large one stands in for one: the figures say whether routing finds that out, not what large models are
worth. Learning sees the part "learn" of the questions; the figures are of the part "test".
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

from bench.results import Figure

NOTES = __doc__ or ""
# So that every tier is asked: what is never asked is never learnt.
LEARNING_FLOORS: Final = ("0.65", "0.85", "0.97")
MIN_OUTCOMES: Final = "30"
COMMAND_S: Final = 1200


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    """The figures, by name."""
    del arguments
    with tempfile.TemporaryDirectory(prefix="farthing-local-bench-") as folder:
        state = Path(folder) / "state"
        farthing(state, "up", "--detach")
        try:
            before = compared(state)
            for floor in LEARNING_FLOORS:
                learn = ("--graded", "--part", "learn", "--no-cache", "--report-outcomes", "--quality-floor", floor)
                farthing(state, "replay", *learn, "--json")
            print(farthing(state, "models", "recalibrate", "--min-outcomes", MIN_OUTCOMES))
            farthing(state, "down")
            farthing(state, "up", "--detach")
            after = compared(state)
        finally:
            farthing(state, "down")
    return {**told("local", before, "small"), **told("local", before, "large")} | {
        **told("local_before_learning", before, "routed"),
        **told("local_after_learning", after, "routed"),
    }


def compared(state: Path) -> dict[str, Any]:
    """Always small, always large, routed."""
    found: dict[str, Any] = json.loads(farthing(state, "replay", "--compare", "--part", "test", "--json"))
    return found


def farthing(state: Path, *words: str) -> str:
    """One command; what it prints. Ends the bench when it fails."""
    command = [sys.executable, "-m", "farthing_cli", "--state", str(state), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    if done.returncode != 0:
        raise SystemExit(f"bench.routing local: farthing {' '.join(words)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def told(name: str, runs: dict[str, Any], way: str) -> dict[str, Figure]:
    """Quality, and cost as a share of always large."""
    label = name if way == "routed" else f"{name}_always_{way}"
    return {
        f"{label}_right": round(runs[way]["right"] / runs[way]["graded"], 4),
        f"{label}_cost": round(runs[way]["cost_nano_usd"] / runs["large"]["cost_nano_usd"], 4),
    }
