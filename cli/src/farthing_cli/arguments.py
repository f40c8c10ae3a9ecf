"""What may be typed behind an option or in its place: one type for texts, numbers, whole numbers and moments each.
What cannot be used is refused before anything is sent, in words that name the option."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click

from farthing_cli.errors import InputError
from farthing_kit import labels, numbers

SINCE_HELP: Final = "Only of requests since then: 2026-11-01, 2026-11-01T12:00:00Z, or 7d, 12h, 30m ago."
MAX_INT32: Final = 2**31 - 1
MAX_INT64: Final = 2**63 - 1
MAX_HOURS: Final = 10 * 366 * 24
MAX_WAIT_S: Final = 86_400
MAX_TEXT_BYTES: Final = 4 * 1024 * 1024

_AGO: Final = re.compile(r"([0-9]{1,6})([mhd])", re.ASCII)
_UNITS: Final[Mapping[str, str]] = {"m": "minutes", "h": "hours", "d": "days"}
_FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9999, 12, 31, tzinfo=UTC)


class _Type(click.ParamType[Any]):
    """A type whose `read` raises ValueError with words that stand behind the name of the option."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return self.read(value)
        except ValueError as error:
            raise InputError(f"{_name_of(param, ctx)} {error}") from None

    def read(self, raw: Any) -> Any:
        """The value of what was typed."""
        raise NotImplementedError


class Label(_Type):
    """A name or another short text on one line; empty where nothing is named."""

    name = "text"

    def __init__(self, most: int = labels.MAX_NAME_CHARS, least: int = 0) -> None:
        self.most, self.least = most, least

    def read(self, raw: str) -> str:
        """The text, by the one rule for labels."""
        if (fault := labels.fault(raw, most=self.most, least=self.least)) is not None:
            raise ValueError(fault)
        return raw


class Text(_Type):
    """A text that may have lines, such as a question."""

    name = "text"

    def read(self, raw: str) -> str:
        """The text, if it is one: bytes of another encoding reach a program as halves of surrogate pairs."""
        try:
            size = len(raw.encode())
        except UnicodeEncodeError as error:
            raise ValueError(f"is not UTF-8 at place {error.start + 1}; convert it first") from None
        if size > MAX_TEXT_BYTES:
            raise ValueError(f"has {size:,} bytes, must have at most {MAX_TEXT_BYTES:,}")
        if "\0" in raw:
            raise ValueError("has a NUL character, must have none")
        return raw


class Number(_Type):
    """A finite number between bounds; `inside`: neither of the two."""

    name = "number"

    def __init__(self, least: float, most: float, *, inside: bool = False) -> None:
        self.least, self.most, self.inside = least, most, inside

    def read(self, raw: Any) -> float:
        """The number."""
        return numbers.number(raw, self.least, self.most, inside=self.inside)


class Whole(_Type):
    """A whole number inside bounds."""

    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        self.least, self.most = least, most

    def read(self, raw: Any) -> int:
        """The number."""
        return numbers.whole(raw, self.least, self.most)


class Moment(_Type):
    """A moment as people write it: a date, a date and time (UTC where nothing else is said), or how long ago."""

    name = "moment"

    def read(self, raw: Any, now: datetime | None = None) -> datetime:
        """The moment, in UTC."""
        if isinstance(raw, datetime):
            return raw
        try:
            moment = _moment(raw, now or datetime.now(UTC))
        except (ValueError, OverflowError):
            moment = None
        if moment is None or not _FIRST <= moment <= _LAST:
            must = "must be 2026-11-01, 2026-11-01T12:00:00Z, or 7d, 12h, 30m for ago"
            raise ValueError(f"is {numbers.quoted(raw)}, {must}")
        return moment


def _moment(raw: str, now: datetime) -> datetime:
    if found := _AGO.fullmatch(raw):
        return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
    read = datetime.fromisoformat(raw)
    return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).astimezone(UTC)


def _name_of(param: click.Parameter | None, ctx: click.Context | None) -> str:
    if isinstance(param, click.Option):
        return max(param.opts, key=len)
    return param.make_metavar(ctx) if param is not None and ctx is not None else "the value"
