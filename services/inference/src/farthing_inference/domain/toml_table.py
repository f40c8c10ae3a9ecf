"""Reads typed values out of a parsed TOML table, and collects all that is wrong instead of stopping at the first."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from enum import Enum
from typing import Any, Final, TypeVar

_E = TypeVar("_E", bound=Enum)
_V = TypeVar("_V")
_NANO_DIGITS: Final = 9


@dataclass(slots=True)
class Table:
    """One table of a file. `where` leads each problem; a value that cannot be used is replaced by one of its type, so
    that reading goes on: look at `problems` before using anything."""

    where: str
    raw: Mapping[str, Any]
    problems: list[str]
    _seen: set[str] = field(default_factory=set)

    def text(
        self, key: str, *, form: re.Pattern[str] | None = None, wanted: str = "", default: str | None = None
    ) -> str:
        """A string that is not empty and has the given form; `wanted` says that form in words."""
        value = self._get(key, default)
        if value is None:
            return ""
        if not isinstance(value, str):
            return self._wrong(key, f"is {_kind(value)}, must be a string", "")
        if default is None and not value.strip():
            return self._wrong(key, "is empty", "")
        if form is not None and not form.fullmatch(value):
            return self._wrong(key, f"is {value!r}, must be {wanted}", "")
        return value

    def texts(self, key: str, *, required: bool = True, limit: int) -> tuple[str, ...]:
        """A list of strings, none empty."""
        value = self._get(key, None if required else [])
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            return self._wrong(key, "must be a list of strings that are not empty", ())
        if required and not value:
            return self._wrong(key, "is empty, must have at least one entry", ())
        if len(value) > limit:
            return self._wrong(key, f"has {len(value)} entries, must have at most {limit}", ())
        return tuple(value)

    def integer(self, key: str, low: int, high: int) -> int:
        """A whole number within bounds."""
        value = self._get(key, None)
        if value is None:
            return low
        if not isinstance(value, int) or isinstance(value, bool):
            return self._wrong(key, f"is {_kind(value)}, must be a whole number", low)
        if not low <= value <= high:
            return self._wrong(key, f"is {value}, must be {low} to {high}", low)
        return value

    def member(self, key: str, kind: type[_E]) -> _E:
        """One of an enum's names, in lower case."""
        names = {member.name.lower(): member for member in kind}
        value = self._get(key, None)
        first = next(iter(names.values()))
        if value is None:
            return first
        if not isinstance(value, str) or value not in names:
            return self._wrong(key, f"is {value!r}, must be one of {', '.join(names)}", first)
        return names[value]

    def nano_usd(self, key: str, highest_usd: int) -> int:
        """US dollars as a string of digits such as "0.35", in nano-dollars. No float: money is exact."""
        value = self._get(key, None)
        if value is None:
            return 0
        if not isinstance(value, str):
            return self._wrong(key, f'is {_kind(value)}, must be dollars in quotes, such as "0.35"', 0)
        try:
            amount = Decimal(value)
        except InvalidOperation:
            return self._wrong(key, f'is {value!r}, must be dollars such as "0.35"', 0)
        if not amount.is_finite() or not 0 <= amount <= highest_usd:
            return self._wrong(key, f"is {value!r}, must be 0 to {highest_usd} dollars", 0)
        nanos = int(amount.scaleb(_NANO_DIGITS))
        if Decimal(nanos).scaleb(-_NANO_DIGITS) != amount:
            return self._wrong(key, f"is {value!r}, must have at most {_NANO_DIGITS} decimal places", 0)
        return nanos

    def tables(self, key: str, limit: int) -> list[Mapping[str, Any]]:
        """An array of tables: at least one."""
        value = self._get(key, None)
        if value is None:
            return []
        if not isinstance(value, list) or not value or not all(isinstance(item, dict) for item in value):
            return self._wrong(key, f"must be at least one table, written as [[{key}]]", [])
        if len(value) > limit:
            return self._wrong(key, f"are {len(value)}, must be at most {limit}", [])
        return value

    def named_texts(self, key: str, limit: int) -> Mapping[str, str]:
        """A table of strings by name; none when it is not there."""
        value = self._get(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) and item for item in value.values()):
            return self._wrong(key, f"must be a table of strings, written as [{key}]", {})
        if len(value) > limit:
            return self._wrong(key, f"are {len(value)}, must be at most {limit}", {})
        return value

    def problem(self, key: str, text: str) -> None:
        """Note something that is wrong with a key's value."""
        lead = f"{self.where}: " if self.where else ""
        self.problems.append(f"{lead}{key}: {text}")

    def finish(self) -> None:
        """Note every key that nobody asked for: a misspelt one would be ignored otherwise."""
        for key in self.raw.keys() - self._seen:
            near = difflib.get_close_matches(key, self._seen, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(self._seen))}"
            self.problem(key, f"is not a field; {hint}")

    def _get(self, key: str, default: Any) -> Any:
        self._seen.add(key)
        if key not in self.raw:
            if default is None:
                self.problem(key, "is missing")
            return default
        return self.raw[key]

    def _wrong(self, key: str, text: str, instead: _V) -> _V:
        self.problem(key, text)
        return instead


_KINDS: Final = {
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "a table",
}


def _kind(value: Any) -> str:
    return _KINDS.get(type(value), "a date")
