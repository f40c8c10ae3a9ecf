"""One part of the chaos lane, into bench/results/chaos.json: `python -m bench.chaos PART`; `make chaos` runs all."""

import sys
from pathlib import Path

from bench.parts import run

SHARED = {"books", "callers"}

if __name__ == "__main__":
    sys.exit(run("chaos", Path(__file__).parent, SHARED))
