"""Outcomes as JSON lines: what `farthing outcomes` prints and recalibration reads.

One object a line with the fields of farthing.gateway.v1.ObservedOutcome. Read are `request_id`, `tier` ("small",
"medium", "large"), `score`, `outcome` ("acceptable", "not_acceptable"), `model_version`, and where there is one
`cascade` (false) and `decide_time` (RFC 3339). Names of the contract ("TIER_SMALL", "OUTCOME_ACCEPTABLE") are read too.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from farthing_classifier.domain.tiers import TIERS
from farthing_kit import numbers
from farthing_models.recalibration import Observation

_TIERS: Final = {tier.value: tier for tier in TIERS}
# Log-odds: beyond these a probability is 0 or 1 to every digit.
MAX_SCORE: Final = 1_000.0
_OUTCOMES: Final = {"acceptable": True, "not_acceptable": False}


class OutcomeError(ValueError):
    """A file or line that cannot be read. One line; says which and why."""


def load(path: Path, since: datetime | None = None) -> list[Observation]:
    """The outcomes of a file, in its order; with `since` only those of requests that were decided from then on."""
    try:
        text = path.read_text("utf-8-sig")  # some editors write a byte order mark
    except (OSError, UnicodeDecodeError) as error:
        raise OutcomeError(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}") from None
    return list(_rows(path, text, since))


def _rows(path: Path, text: str, since: datetime | None) -> Iterator[Observation]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = _object(line)
            observation = _observation(row)
            if since is None or _moment(row) >= since:
                yield observation
        except OutcomeError as error:
            raise OutcomeError(f"{path}:{number}: {error}") from None


def _object(line: str) -> Mapping[str, Any]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise OutcomeError("is not JSON") from None
    if not isinstance(row, dict):
        raise OutcomeError("is not an object of JSON")
    return row


def _observation(row: Mapping[str, Any]) -> Observation:
    tier = _TIERS.get(_word(row, "tier").removeprefix("tier_"))
    if tier is None:
        raise OutcomeError(f"tier must be one of {', '.join(_TIERS)}")
    acceptable = _OUTCOMES.get(_word(row, "outcome").removeprefix("outcome_"))
    if acceptable is None:
        raise OutcomeError(f"outcome must be one of {', '.join(_OUTCOMES)}")
    cascade = row.get("cascade", False)
    if not isinstance(cascade, bool):
        raise OutcomeError("cascade must be true or false")
    return Observation(_text(row, "request_id"), tier, _score(row), acceptable, _text(row, "model_version"), cascade)


def _score(row: Mapping[str, Any]) -> float:
    score = row.get("score")
    if isinstance(score, str):
        raise OutcomeError("score must be a number, without quotation marks")
    try:
        return numbers.number(score, -MAX_SCORE, MAX_SCORE)
    except ValueError as error:
        raise OutcomeError(f"score {error}") from None


def _moment(row: Mapping[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(_text(row, "decide_time"))
    except ValueError as error:
        raise OutcomeError(str(error) if isinstance(error, OutcomeError) else "decide_time is no moment") from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _word(row: Mapping[str, Any], name: str) -> str:
    return _text(row, name).lower()


def _text(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str) or not value:
        raise OutcomeError(f"{name} must be a text that is not empty")
    return value
