"""Stands in for a verifier where there is none: nothing is ever served by meaning."""

from __future__ import annotations

from collections.abc import Sequence

from farthing_cache.domain.errors import VerifierError
from farthing_cache.domain.profile import Profile


class NoVerifier:
    """The Verifier port."""

    encoder_sha256 = ""

    def scores(self, asked: Profile, kept: Sequence[Profile], cosines: Sequence[float]) -> list[float]:
        """Always refuses: the look-up is a miss."""
        raise VerifierError("there is no verifier")
