"""Stands in for a verifier where there is none: nothing is ever served by meaning."""

from __future__ import annotations

from farthing_cache.domain.errors import VerifierError
from farthing_cache.domain.profile import Profile


class NoVerifier:
    """The Verifier port."""

    encoder_sha256 = ""

    def score(self, asked: Profile, kept: Profile, cosine: float) -> float:
        """Always refuses: the look-up is a miss."""
        raise VerifierError("there is no verifier")
