"""`farthing models recalibrate`: a calibration from outcomes, written only where it is not worse, or said to be."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from farthing_classifier.domain.calibration import Calibration, CalibrationError, parse
from farthing_models import outcome_rows
from farthing_models.outcome_rows import OutcomeError
from farthing_models.recalibration import MIN_OUTCOMES, Recalibration, TierResult, file_content, recalibrate

SHIPPED: Final = Path(str(files("farthing_classifier"))) / "heads" / "calibration.json"
NOTHING_WRITTEN: Final = 1
USAGE: Final = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point. 0: written. 1: not written, and said why. 2: the arguments or files cannot be used."""
    options = _parser().parse_args(arguments)
    now = datetime.now(UTC)
    try:
        present = read(options.calibration) if options.calibration else read(SHIPPED)
        rows = outcome_rows.load(options.outcomes, options.since)
    except (OutcomeError, CalibrationError) as error:
        print(f"farthing: {error}", file=sys.stderr)
        return USAGE
    made = recalibrate(present, rows, now, min_outcomes=options.min_outcomes)
    written = made.changed and (options.force or not made.worse)
    content = file_content(made, now)
    if written:
        _write(options.out, content)
    _show(made, content, options, written=written)
    return 0 if written else NOTHING_WRITTEN


def read(path: Path) -> Calibration:
    """The calibration in a file; CalibrationError names the file."""
    try:
        return parse(json.loads(path.read_text("utf-8")))
    except OSError as error:
        raise CalibrationError(f"cannot read the calibration {path}: {error.strerror}") from None
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from None
    except (ValueError, AttributeError, RecursionError):
        raise CalibrationError(f"{path} is no calibration") from None


def _write(path: Path, content: dict[str, Any]) -> None:
    """The whole file or nothing of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.part")
    partial.write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    partial.replace(path)


def _show(made: Recalibration, content: dict[str, Any], options: argparse.Namespace, *, written: bool) -> None:
    if options.json:
        told = {"version": made.calibration.version, **content["recalibration"]}
        print(json.dumps({"written": str(options.out) if written else None, **told}, indent=2))
        return
    print(f"calibration in use: {made.present}, of {made.calibration.heads}; figures are of the part held out")
    for each in made.tiers:
        print(f"  {each.tier.value:<6} {_line(each)}")
    for why, count in made.left_out.items():
        print(f"  left out: {count} outcomes {why}")
    print(_verdict(made, options, written=written))


def _line(result: TierResult) -> str:
    before, after = result.before, result.after
    if before is None or after is None:
        return f"keeps its map: {result.kept}"
    figures = (
        f"Brier {before.brier:.4f} → {after.brier:.4f}",
        f"log loss {before.log_loss:.4f} → {after.log_loss:.4f}",
        f"ECE {before.ece:.4f} → {after.ece:.4f}",
    )
    worse = f"; WORSE: {', '.join(result.worse)}" if result.worse else ""
    return f"{result.fitted} outcomes fitted, {result.held_out} held out: {', '.join(figures)}{worse}"


def _verdict(made: Recalibration, options: argparse.Namespace, *, written: bool) -> str:
    if not made.changed:
        return f"nothing written: no tier has {options.min_outcomes} outcomes yet"
    if not written:
        return "nothing written: it would be worse on the outcomes that were held out; --force writes it all the same"
    worse = ", although it is WORSE on the outcomes that were held out" if made.worse else ""
    return f"wrote {made.calibration.version} to {options.out}{worse}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m farthing_models.recalibrate", description=__doc__)
    parser.add_argument("--outcomes", type=Path, required=True, help="JSON lines, as `farthing outcomes` prints them")
    parser.add_argument("--calibration", type=Path, help="the calibration in use; by default the shipped one")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--since", type=_moment, help="only requests that were decided from then on (RFC 3339)")
    parser.add_argument("--min-outcomes", type=int, default=MIN_OUTCOMES, help="a tier with fewer keeps its map")
    parser.add_argument("--force", action="store_true", help="write it even where it is worse, and say so in the file")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of text")
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main())
