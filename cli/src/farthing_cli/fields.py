"""Values of a file, read one by one: each is right, or named with its place in the error."""

import re
from collections.abc import Callable, Iterator, Mapping, Set
from typing import Any, Final, TypeVar

from farthing_cli.errors import InputError
from farthing_kit import labels, numbers
from farthing_kit.money import NANOS_PER_USD

# Whole dollars with at most nine digits behind the point, which a float would not hold exactly.
_DOLLARS: Final = re.compile(r"([0-9]{1,9})(?:\.([0-9]{1,9}))?", re.ASCII)

T = TypeVar("T")


class Fields:
    """One table or object of a file. `known`: the keys that it may have, all others are named; `dot`: what stands
    between its place and the name of a key."""

    def __init__(self, values: object, place: str, known: Set[str] | None = None, *, dot: str = ".") -> None:
        if not isinstance(values, dict):
            raise InputError(f"{place}: must be a table of names and values")
        if known is not None and (unknown := sorted(set(values) - known)):
            raise InputError(f"{place}: there is no {unknown[0]!r}; there are {', '.join(sorted(known))}")
        self.values: Mapping[str, Any] = values
        self.place = place
        self._dot = dot

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def __iter__(self) -> Iterator[str]:
        return iter(self.values)

    def text(self, key: str, default: str | None = None) -> str:
        """Any text that can be sent. Without a default it must be there."""
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self.wrong(key, "is not there" if value is None else f"is {numbers.quoted(value)}, must be a string")
        if any("\ud800" <= char <= "\udfff" for char in value):
            raise self.wrong(key, "has half of a surrogate pair, which is no text")
        return value

    def label(self, key: str, *, most: int, least: int = 0) -> str:
        """A short text by the rule for labels; empty where it is not there."""
        value = self.text(key, "")
        if (fault := labels.fault(value, most=most, least=least)) is not None:
            raise self.wrong(key, fault)
        return value

    def whole(self, key: str, least: int, most: int) -> int | None:
        """A whole number; None where it is not there."""
        return self._read(key, lambda value: numbers.whole(value, least, most))

    def number(self, key: str, least: float, most: float, *, inside: bool = False) -> float | None:
        """A finite number, with `inside` neither of the two; None where it is not there."""
        return self._read(key, lambda value: numbers.number(value, least, most, inside=inside))

    def flag(self, key: str, *, default: bool) -> bool:
        """Yes or no."""
        value = self.values.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, f"is {numbers.quoted(value)}, must be true or false")
        return value

    def choice(self, key: str, options: Mapping[str, int], default: str | None = None) -> int:
        """One of some words."""
        word = self.text(key, default)
        if word not in options:
            raise self.wrong(key, f"is {word!r}, must be one of {', '.join(options)}")
        return options[word]

    def dollars(self, key: str, most_usd: int) -> int | None:
        """An amount in nano-dollars, exact: written as a string, because a float is not; None where it is not there."""
        raw = self.values.get(key)
        if raw is None:
            return None
        found = _DOLLARS.fullmatch(raw) if isinstance(raw, str) else None
        if found is None:
            must = 'must be dollars as a string, such as "20.00", with at most 9 digits after the point'
            raise self.wrong(key, f"is {numbers.quoted(raw)}, {must}")
        nanos = int(found[1]) * NANOS_PER_USD + int((found[2] or "").ljust(9, "0"))
        if nanos > most_usd * NANOS_PER_USD:
            raise self.wrong(key, f"is {numbers.quoted(raw)}, must be at most {most_usd} dollars")
        return nanos

    def tables(self, key: str, known: Set[str]) -> list["Fields"]:
        """The tables of a list, none where it is not there."""
        value = self.values.get(key, [])
        if not isinstance(value, list):
            raise self.wrong(key, f"must be written [[{key}]], once for each")
        return [Fields(each, f"{self._of(key)} {number}", known) for number, each in enumerate(value, 1)]

    def table(self, key: str, known: Set[str] | None = None) -> "Fields":
        """A table inside this one, empty where it is not there."""
        return Fields(self.values.get(key, {}), self._of(key), known)

    def wrong(self, key: str, why: str) -> InputError:
        """The error for one key."""
        return InputError(f"{self._of(key)} {why}")

    def _of(self, key: str) -> str:
        return f"{self.place}{self._dot}{key}"

    def _read(self, key: str, reader: Callable[[object], T]) -> T | None:
        value = self.values.get(key)
        if isinstance(value, str):
            raise self.wrong(key, f"is {numbers.quoted(value)}, must be a number, without quotation marks")
        try:
            return None if value is None else reader(value)
        except ValueError as error:
            raise self.wrong(key, str(error)) from None
