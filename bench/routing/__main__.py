"""One part of the routing bench, into bench/results/routing.json: `python -m bench.routing PART [--data DIR]`."""

import sys
from pathlib import Path

from bench.parts import run

SHARED = {"baselines", "bootstrap"}

if __name__ == "__main__":
    sys.exit(run("routing", Path(__file__).parent, SHARED))
