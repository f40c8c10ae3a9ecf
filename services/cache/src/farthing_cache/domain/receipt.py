"""The name of a look-up by meaning, which holds all that a later label needs: no replica has to remember it."""

from __future__ import annotations

import hmac
import struct
from dataclasses import dataclass
from typing import Final

_FORM: Final = struct.Struct("<BBBddIq8s")
_VERSION: Final = 2
_MAC_BYTES: Final = 16
# Reports come soon after the look-up, or not at all.
LIFE_S: Final = 24 * 3600


@dataclass(frozen=True, slots=True)
class Receipt:
    """What was decided: for which kind of work, at which score, whether by exploration, how probable that was, and in
    which period of the account."""

    category: int
    score: float
    explored: bool
    propensity: float
    period: int
    at_s: int
    nonce: bytes


def write(receipt: Receipt, secret: bytes) -> bytes:
    """The name; only this mesh can make one."""
    form = _FORM.pack(
        _VERSION,
        receipt.category,
        receipt.explored,
        receipt.score,
        receipt.propensity,
        receipt.period,
        receipt.at_s,
        receipt.nonce,
    )
    return form + hmac.digest(secret, form, "sha256")[:_MAC_BYTES]


def read(name: bytes, secret: bytes, now_s: float) -> Receipt | None:
    """What a name says; None if this mesh did not make it for this organisation, or too long ago."""
    form, mac = name[: _FORM.size], name[_FORM.size :]
    if len(form) != _FORM.size or not hmac.compare_digest(hmac.digest(secret, form, "sha256")[:_MAC_BYTES], mac):
        return None
    version, category, explored, score, propensity, period, at_s, nonce = _FORM.unpack(form)
    if version != _VERSION or now_s - at_s > LIFE_S:
        return None
    return Receipt(category, score, bool(explored), propensity, period, at_s, nonce)
