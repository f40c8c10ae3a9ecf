"""The declared prices of a file, in US dollars for a million tokens, as exact integers."""

from __future__ import annotations

import tomllib
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from farthing_accounting.domain.pricing import MAX_PRICE, ModelPrice
from farthing_accounting.domain.vocabulary import Tier
from farthing_kit.money import NANOS_PER_USD, UnitPrices

_BUCKETS: Final = ("fresh_input", "cache_read", "cache_write", "output", "reasoning")
_KNOWN: Final = frozenset({"name", "tier", *_BUCKETS})
# The store sets the real ones.
_NO_VERSION: Final = 0
_NO_MOMENT: Final = datetime(1970, 1, 1, tzinfo=UTC)


class PriceFileError(Exception):
    """The file cannot be used; the text names the model and the field."""


def read(path: Path) -> list[ModelPrice]:
    """Every [[model]] of the file, in its order."""
    try:
        # Decimal, so that 0.1 is a tenth.
        document = tomllib.loads(path.read_bytes().decode("utf-8-sig"), parse_float=Decimal)
    except OSError as error:
        raise PriceFileError(f"the price file {path} cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        raise PriceFileError(f"the price file {path} is not TOML: {error}") from None
    models = document.get("model", [])
    if not isinstance(models, list) or not all(isinstance(model, dict) for model in models):
        raise PriceFileError(f"the price file {path}: models must be written [[model]]")
    prices = [_price(model) for model in models]
    if len({price.model for price in prices}) != len(prices):
        raise PriceFileError(f"the price file {path} names a model twice")
    return prices


def _price(model: dict[str, Any]) -> ModelPrice:
    name = model.get("name")
    if not isinstance(name, str) or not name:
        raise PriceFileError("a model has no name")
    if unknown := model.keys() - _KNOWN:
        raise PriceFileError(f"model {name}: {', '.join(sorted(unknown))} is not a field")
    if str(model.get("tier")).upper() not in ("SMALL", "MEDIUM", "LARGE"):
        raise PriceFileError(f"model {name}: tier must be small, medium or large")
    tier = Tier[model["tier"].upper()]
    return ModelPrice(_NO_VERSION, name, tier, UnitPrices(*(_nano(name, model, b) for b in _BUCKETS)), _NO_MOMENT)


def _nano(name: str, model: dict[str, Any], bucket: str) -> int:
    value = model.get(bucket)
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise PriceFileError(f"model {name}: {bucket} must be a number of US dollars for a million tokens")
    price = Decimal(value)
    inside = price.is_finite() and 0 <= price <= MAX_PRICE // NANOS_PER_USD
    nano = int(price * NANOS_PER_USD) if inside else 0
    if not inside or Decimal(nano) / NANOS_PER_USD != price:
        raise PriceFileError(f"model {name}: {bucket} must be 0 to 1000 dollars, with at most 9 decimals")
    return nano
