"""One part of the caching bench, into bench/results/caching.json: `python -m bench.caching PART [--data DIR]`."""

import sys
from pathlib import Path

from bench.parts import run

SHARED = {"pairs", "peers", "stream"}

if __name__ == "__main__":
    sys.exit(run("caching", Path(__file__).parent, SHARED))
