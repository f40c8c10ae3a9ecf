"""Who pays for a request, and the forms that names may have."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

MAX_USER_CHARS: Final = 128
_NAME: Final = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(frozen=True, slots=True)
class Principal:
    """From the widest scope to the narrowest; all but the organisation may be empty."""

    org: str
    team: str = ""
    user: str = ""
    key_id: str = ""


def is_name(text: str) -> bool:
    """Whether a text may name an organisation or a team: 1 to 64 characters of [a-z0-9-]."""
    return _NAME.fullmatch(text) is not None
