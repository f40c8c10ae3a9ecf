"""Whether a peer is missing."""

from __future__ import annotations

from typing import Final

from farthing_gateway.domain.errors import is_outage
from farthing_kit import deadline
from farthing_kit.errors import FarthingError

# A peer's deadline ends this long before the caller's: the kit's margin, and what it takes to hear of it.
_SLACK_S: Final = deadline.MARGIN_S + 0.010


def is_away(error: FarthingError) -> bool:
    """Whether the peer is missing: it neither said no, nor is it just the caller's own time that is up. Without the
    last distinction a caller with too little time would be told that accounting is down."""
    left_s = deadline.remaining_s()
    return is_outage(error) and (left_s is None or left_s > _SLACK_S)
