"""A bench of several parts, run one by one, whose figures share one result file.

A part is a module of the bench's package with `run(options) -> figures by name`, where a figure is a number or a number
with both ends of its 95 % interval; its `NOTES`, if it has any, go into the result. What other parts wrote stays.
"""

import argparse
import importlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from bench import results


def parts(folder: Path, shared: Collection[str]) -> list[str]:
    """The parts in a folder: not what they share, and nothing with an underscore in its name."""
    found = {path.stem for path in folder.glob("*.py") if "_" not in path.stem}
    return sorted(found - set(shared))


def run(bench: str, folder: Path, shared: Collection[str], arguments: Sequence[str] | None = None) -> int:
    """Run one part and write what it found."""
    parser = argparse.ArgumentParser(prog=f"python -m bench.{bench}", description=f"One part of the bench of {bench}.")
    parser.add_argument("part", choices=parts(folder, shared))
    parser.add_argument("--data", type=Path, help="folder or file that the part measures with")
    parser.add_argument("--encoder", type=Path, default=Path("build/models/encoder"), help="what export_encoder wrote")
    parser.add_argument("--cache", type=Path, default=Path("build") / bench, help="folder for embeddings")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    module = importlib.import_module(f"bench.{bench}.{options.part}")
    figures = module.run(options)
    notes = getattr(module, "NOTES", module.__doc__ or "")
    path = results.write_part(bench, options.part, figures, seed=options.seed, notes=notes)
    print(json.dumps(figures, indent=2))
    print(f"written to {path}")
    return 0
