"""The declared prices, and what is wrong with others."""

from __future__ import annotations

from pathlib import Path

import pytest

from farthing_accounting.adapters.price_file import PriceFileError, read
from farthing_accounting.domain.vocabulary import Tier
from farthing_kit.local.wheels import config_dir
from farthing_kit.money import UnitPrices

BUCKETS = "fresh_input = 0.1\ncache_read = 0.05\ncache_write = 0.1\noutput = 0.1\nreasoning = 0.1\n"


def test_the_prices_of_the_repository() -> None:
    prices = {price.model: price for price in read(config_dir() / "accounting" / "prices.toml")}
    tiers = {"small": Tier.SMALL, "medium": Tier.MEDIUM, "large": Tier.LARGE, "echo": Tier.SMALL}
    assert {name: prices[name].tier for name in tiers} == tiers
    assert [price.model for price in prices.values() if price.tier is Tier.LARGE] == ["large"]
    assert prices["large"].prices == UnitPrices(900_000_000, 450_000_000, 900_000_000, 900_000_000, 900_000_000)
    assert prices["echo"].prices == UnitPrices(10_000_000, 5_000_000, 12_000_000, 30_000_000, 25_000_000)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[model]\n", "not TOML"),
        (f'[[model]]\ntier = "small"\n{BUCKETS}', "no name"),
        (f'[[model]]\nname = "a"\ntier = "tiny"\n{BUCKETS}', "tier must be"),
        (f'[[model]]\nname = "a"\n{BUCKETS}', "tier must be"),
        (f'[[model]]\nname = "a"\ntier = "small"\nprompt = 1\n{BUCKETS}', "prompt is not a field"),
        ('[[model]]\nname = "a"\ntier = "small"\nfresh_input = 1\n', "cache_read must be a number"),
        (f'[[model]]\nname = "a"\ntier = "small"\n{BUCKETS.replace("0.05", "0.0000000001")}', "9 decimals"),
        (f'[[model]]\nname = "a"\ntier = "small"\n{BUCKETS.replace("0.05", "-1")}', "0 to 1000"),
        (f'[[model]]\nname = "a"\ntier = "small"\n{BUCKETS}' * 2, "twice"),
        ("model = 5", r"must be written \[\[model\]\]"),
        ("model = [5]", r"must be written \[\[model\]\]"),
        ("x = " + "[" * 5_000, "not TOML"),
        ("x = " + "9" * 5_000, "not TOML"),
        *(
            (f'[[model]]\nname = "a"\ntier = "small"\n{BUCKETS.replace("0.05", price)}', "0 to 1000")
            for price in ("nan", "inf", "-inf", "1e999", "1e999999", "1000.000000001", "1e-999999", f"0.05{'0' * 30}1")
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "prices.toml"
    file.write_text(text)
    with pytest.raises(PriceFileError, match=words):
        read(file)


def test_a_file_that_is_not_utf_8_is_named_and_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "prices.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(PriceFileError, match=r"prices.toml is not TOML"):
        read(file)
    file.write_bytes(f'\ufeff[[model]]\nname = "a"\ntier = "small"\n{BUCKETS}'.encode())
    assert [price.model for price in read(file)] == ["a"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PriceFileError, match="cannot be read"):
        read(tmp_path / "none.toml")
