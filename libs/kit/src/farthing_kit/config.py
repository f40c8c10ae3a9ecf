"""Typed settings from the environment, and a report that names everything wrong with them at once.

A service's settings are one frozen dataclass. `load(GatewaySettings, "gateway")` reads each field from
`FARTHING_GATEWAY_<FIELD>`, else from the common `FARTHING_<FIELD>`, else takes its default. Secrets are never values of
the environment: a field of type `Secret` is read from the file that `…_FILE` names.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import stat
import types
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from pathlib import Path
from typing import Any, Final, TypeVar

from farthing_kit import numbers
from farthing_kit.labels import fault

PREFIX: Final = "FARTHING_"
FILE_SUFFIX: Final = "_FILE"
# Read by the CLI and the tests, by no service: not unknown.
RESERVED: Final = frozenset(
    {"FARTHING_HOME", "FARTHING_API_KEY", "FARTHING_TARGET", "FARTHING_CONFIG_DIR", "FARTHING_OTELCOL"}
)

_S = TypeVar("_S")
_TRUE: Final = frozenset({"1", "true", "yes", "on"})
_FALSE: Final = frozenset({"0", "false", "no", "off"})
_UNITS_S: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
# Bounds of settings that have none of their own: what is beyond is a slip of the keyboard, and would fail elsewhere.
MAX_NUMBER: Final = 10**15 - 1
LONGEST: Final = timedelta(days=3660)
MAX_TEXT_CHARS: Final = 4096
# Fields of whole numbers that end so are durations.
_UNITS: Final = {
    "_ms": timedelta(milliseconds=1),
    "_seconds": timedelta(seconds=1),
    "_hours": timedelta(hours=1),
    "_days": timedelta(days=1),
}


class Secret:
    """Bytes that no log, report or traceback shows. `reveal()` is the only way in."""

    __slots__ = ("_value", "path")

    def __init__(self, value: bytes, path: Path | None = None) -> None:
        self._value = value
        self.path = path

    def reveal(self) -> bytes:
        """The secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)


def setting(
    default: Any = dataclasses.MISSING,
    *,
    doc: str,
    min: float | None = None,
    max: float | None = None,
    unsafe: Mapping[Any, str] | None = None,
) -> Any:
    """A documented field. `min` and `max` bound numbers, and durations in seconds; `unsafe` maps values that work but
    should not be used in production to the reason why."""
    metadata = {"doc": doc, "min": min, "max": max, "unsafe": dict(unsafe or {})}
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with one variable; `kind` is "missing", "invalid", "unknown" or "unsafe"."""

    variable: str
    kind: str
    message: str

    def __str__(self) -> str:
        return f"{self.variable}: {self.message}"


class ConfigError(Exception):
    """Settings that cannot be used; the text names every variable at fault, one a line."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Variable:
    """One field as an operator sees it: for `farthing config` and the documentation."""

    name: str
    common_name: str
    field: str
    type: str
    default: str
    doc: str


def load(cls: type[_S], service: str, env: Mapping[str, str] | None = None) -> _S:
    """The settings of one service. Raises ConfigError naming every bad or missing variable."""
    values, problems = _collect(cls, service, os.environ if env is None else env)
    if problems:
        raise ConfigError(problems)
    return cls(**values)


def problems(cls: type[Any], service: str, env: Mapping[str, str] | None = None) -> list[Problem]:
    """What `load` would refuse; empty when it would succeed."""
    return _collect(cls, service, os.environ if env is None else env)[1]


def unknown(env: Mapping[str, str], classes: Mapping[str, type[Any]], also_known: Iterable[str] = ()) -> list[Problem]:
    """Every FARTHING_ variable that no service of `classes` (name → settings class) reads, with the near match."""
    known = RESERVED | set(also_known)
    for service, cls in classes.items():
        for variable in variables(cls, service):
            known |= {variable.name, variable.common_name}
    strays = sorted(name for name in env if name.startswith(PREFIX) and name not in known)
    return [Problem(name, "unknown", _suggestion(name, known)) for name in strays]


def unsafe(cls: type[Any], service: str, env: Mapping[str, str] | None = None) -> list[Problem]:
    """Settings that work and should not be used in production: secrets that others can read, values marked unsafe."""
    environment = os.environ if env is None else env
    values, _ = _collect(cls, service, environment)
    found = [problem for field in dataclasses.fields(cls) for problem in _unsafe_field(field, service, values)]
    return found + _secrets_in_environment(cls, service, environment)


def variables(cls: type[Any], service: str) -> list[Variable]:
    """Every variable that a service reads."""
    hints = typing.get_type_hints(cls)
    return [
        Variable(
            name=_name(service, field, hints[field.name]),
            common_name=_name("", field, hints[field.name]),
            field=field.name,
            type=_type_name(hints[field.name]),
            default="(required)" if _required(field) else _shown(field.default),
            doc=str(field.metadata.get("doc", "")),
        )
        for field in dataclasses.fields(cls)
    ]


def shown(settings: Any) -> dict[str, str]:
    """Settings as text for a report; secrets are ***."""
    return {field.name: _shown(getattr(settings, field.name)) for field in dataclasses.fields(settings)}


def _collect(cls: type[Any], service: str, env: Mapping[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    hints = typing.get_type_hints(cls)
    values: dict[str, Any] = {}
    found: list[Problem] = []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        kind = hints[field.name]
        name, raw = _lookup(env, service, field, kind)
        if raw is None:
            if _required(field):
                found.append(Problem(name, "missing", f"is not set; {field.metadata.get('doc', 'it is required')}"))
            continue
        try:
            values[field.name] = _bounded(_parse(kind, raw), field)
        except ValueError as error:
            found.append(Problem(name, "invalid", str(error)))
    return values, found


def _lookup(env: Mapping[str, str], service: str, field: dataclasses.Field[Any], kind: Any) -> tuple[str, str | None]:
    own, common = _name(service, field, kind), _name("", field, kind)
    if own in env:
        return own, env[own]
    if common in env:
        return common, env[common]
    return own, None


def _name(service: str, field: dataclasses.Field[Any], kind: Any) -> str:
    scope = f"{service.upper().replace('-', '_')}_" if service else ""
    suffix = FILE_SUFFIX if _plain(kind) is Secret else ""
    return f"{PREFIX}{scope}{field.name.upper()}{suffix}"


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _plain(kind: Any) -> Any:
    """The type without `| None`."""
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        inner = [option for option in typing.get_args(kind) if option is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind


def _parse(kind: Any, raw: str) -> Any:
    plain = _plain(kind)
    if raw == "" and plain is not kind:
        return None
    if typing.get_origin(plain) is tuple:
        item = typing.get_args(plain)[0]
        return tuple(_parse(item, part.strip()) for part in raw.split(",") if part.strip())
    if isinstance(plain, type) and issubclass(plain, Enum):
        return _enum(plain, raw)
    parser = _PARSERS.get(plain)
    if parser is None:
        raise ValueError(f"has the type {plain!r}, which settings cannot have")
    return parser(raw)


def _bool(raw: str) -> bool:
    word = raw.strip().lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise ValueError(f"is {numbers.quoted(raw)}, must be true or false")


def _int(raw: str) -> int:
    try:
        return numbers.whole(raw, -MAX_NUMBER, MAX_NUMBER)
    except ValueError:
        raise ValueError(f"is {numbers.quoted(raw)}, must be a whole number of at most 15 digits") from None


def _float(raw: str) -> float:
    try:
        return numbers.number(raw, -MAX_NUMBER, MAX_NUMBER)
    except ValueError:
        raise ValueError(f"is {numbers.quoted(raw)}, must be a number of at most 15 digits") from None


def _timedelta(raw: str) -> timedelta:
    for unit in sorted(_UNITS_S, key=len, reverse=True):
        if raw.endswith(unit):
            most = LONGEST.total_seconds() / _UNITS_S[unit]
            return timedelta(seconds=numbers.number(raw[: -len(unit)], 0, most) * _UNITS_S[unit])
    raise ValueError(f"is {numbers.quoted(raw)}, must be a number with ms, s, m or h")


def _enum(kind: type[Enum], raw: str) -> Enum:
    for member in kind:
        if raw.strip().upper() == member.name.upper():
            return member
    raise ValueError(f"is {numbers.quoted(raw)}, must be one of {', '.join(member.name for member in kind)}")


def _text(raw: str) -> str:
    if (why := fault(raw, most=MAX_TEXT_CHARS, least=0)) is not None:
        raise ValueError(why)
    return raw


def _path(raw: str) -> Path:
    _text(os.fsencode(raw).decode(errors="replace"))  # the name of a file may have bytes that are no text
    return Path(raw)


def _secret(raw: str) -> Secret:
    path = Path(raw)
    try:
        value = path.read_bytes().strip()
    except OSError as error:
        raise ValueError(f"names a file that cannot be read ({error.strerror})") from None
    if not value:
        raise ValueError("names an empty file")
    return Secret(value, path)


_PARSERS: Final[dict[Any, Any]] = {
    str: _text,
    int: _int,
    float: _float,
    bool: _bool,
    Path: _path,
    timedelta: _timedelta,
    Secret: _secret,
}


def _bounded(value: Any, field: dataclasses.Field[Any]) -> Any:
    low, high = field.metadata.get("min"), field.metadata.get("max")
    amount = value.total_seconds() if isinstance(value, timedelta) else value
    if high is None and isinstance(value, int):
        high = next((LONGEST // unit for suffix, unit in _UNITS.items() if field.name.endswith(suffix)), None)
    if low is not None and amount < low:
        raise ValueError(f"is {value}, must be at least {low}")
    if high is not None and amount > high:
        raise ValueError(f"is {value}, must be at most {high}")
    return value


def _unsafe_field(field: dataclasses.Field[Any], service: str, values: Mapping[str, Any]) -> list[Problem]:
    value = values.get(field.name, field.default)
    if isinstance(value, Secret):
        return _unsafe_secret(value, _name(service, field, Secret))
    reasons: Mapping[Any, str] = field.metadata.get("unsafe", {})
    for bad, why in reasons.items():
        if value == bad:
            return [Problem(_name(service, field, type(value)), "unsafe", f"is {_shown(value)}: {why}")]
    return []


def _unsafe_secret(secret: Secret, name: str) -> list[Problem]:
    if secret.path is None:
        return []
    mode = stat.S_IMODE(secret.path.stat().st_mode)
    if not mode & (stat.S_IRWXO):
        return []
    return [Problem(name, "unsafe", f"names a file of mode {mode:03o} that everyone can open; make it 600 or 640")]


def _secrets_in_environment(cls: type[Any], service: str, env: Mapping[str, str]) -> list[Problem]:
    hints = typing.get_type_hints(cls)
    found = []
    for field in dataclasses.fields(cls):
        if _plain(hints[field.name]) is not Secret:
            continue
        for scope in (service, ""):
            name = _name(scope, field, Secret)
            value_name = name.removesuffix(FILE_SUFFIX)
            if value_name in env:
                message = f"holds a secret in the environment, where it is not read; put it in a file and set {name}"
                found.append(Problem(value_name, "unsafe", message))
    return found


def _suggestion(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.75)
    return f"no service reads it; did you mean {near[0]}?" if near else "no service reads it"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(_shown(item) for item in value)
    if isinstance(value, Enum):
        return value.name
    return "" if value is None or value is dataclasses.MISSING else str(value)


def _type_name(kind: Any) -> str:
    plain = _plain(kind)
    if typing.get_origin(plain) is tuple:
        return f"{_type_name(typing.get_args(plain)[0])}, …"
    if isinstance(plain, type) and issubclass(plain, Enum):
        return "|".join(member.name for member in plain)
    return "file" if plain is Secret else getattr(plain, "__name__", str(plain))
