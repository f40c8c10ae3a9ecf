"""One part of the caching bench, into bench/results/caching.json; the figures of the other parts stay.

    python -m bench.caching PART [--data DIR] [--seed N]

A part is a module of this package with `run(options) -> figures by name`; its `NOTES` go into the result.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from bench import results

# Modules of this package that are shared by the parts, or run by none.
NO_PARTS = {"__init__", "__main__", "peers", "pairs", "stream"}


def parts() -> list[str]:
    """The parts that are here."""
    found = {path.stem for path in Path(__file__).parent.glob("*.py")}
    return sorted(name for name in found - NO_PARTS if not name.startswith("_") and "_" not in name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one part and write what it found."""
    parser = argparse.ArgumentParser(prog="python -m bench.caching", description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=parts())
    parser.add_argument("--data", type=Path, help="folder or file that the part measures with")
    parser.add_argument("--encoder", type=Path, default=Path("build/models/encoder"), help="what export_encoder wrote")
    parser.add_argument("--cache", type=Path, default=Path("build/caching"), help="folder for embeddings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    module = importlib.import_module(f"bench.caching.{options.part}")
    figures = module.run(options)
    path = results.write_part(
        "caching", options.part, figures, seed=options.seed, notes=getattr(module, "NOTES", module.__doc__ or "")
    )
    print(json.dumps(figures, indent=2))
    print(f"written to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
