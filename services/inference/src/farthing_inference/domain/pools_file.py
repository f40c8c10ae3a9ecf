"""The pools file: TOML text to pools, or every problem in it at once, each with its pool and field."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from farthing_inference.domain.markers import Markers
from farthing_inference.domain.pools import Market, ModelSpec, PoolSpec, ServerAddress, Tier
from farthing_inference.domain.toml_table import Table
from farthing_kit.money import NanoUsd

MAX_POOLS: Final = 64
MAX_MODELS_PER_POOL: Final = 64
MAX_SERVERS_PER_POOL: Final = 64
MAX_TEMPLATES: Final = 64
MAX_CONTROL_TOKENS: Final = 64
MAX_MODEL_STOPS: Final = 16
MAX_IN_FLIGHT: Final = 4096
MAX_CONTEXT_TOKENS: Final = 10_000_000
MAX_USD_PER_HOUR: Final = 100_000

# Names become labels of metrics and parts of queue subjects, in which a dot or a space would separate.
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_NAME_WORDS: Final = "1 to 63 of a-z, 0-9, - and _, not - or _ first"
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._+-]{0,63}")
_LABEL_WORDS: Final = "1 to 64 letters, digits, spaces and . _ + -"
_ADDRESS: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:]+\]):([0-9]{1,5})")
_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")


class PoolsFileError(Exception):
    """A pools file that cannot be used. The text names the file, and each pool and field at fault, one a line."""

    def __init__(self, source: str, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(f"{source}: {problem}" for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a pools file may refer to: variables of the environment, adapters of this service, chat templates and
    tokenizers by path.

    `template` returns a template's text checked, `tokenizer` the control tokens of a tokenizer's file. Both raise
    ValueError saying what is wrong with it.
    """

    environment: Mapping[str, str]
    adapters: Collection[str]
    template: Callable[[str], str]
    tokenizer: Callable[[str], Collection[str]]


def parse(text: str, source: str, around: Surroundings) -> tuple[PoolSpec, ...]:
    """The pools of a file's text, in its order. Raises PoolsFileError naming `source` and every problem."""
    try:
        raw = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise PoolsFileError(source, [f"is not TOML: {error}"]) from None
    problems: list[str] = []
    top = Table("", raw, problems)
    named = replace(around, template=_named(top.named_texts("chat_templates", MAX_TEMPLATES), around.template))
    pools = tuple(_pool(index, item, problems, named) for index, item in enumerate(top.tables("pools", MAX_POOLS)))
    top.finish()
    problems += _across(pools)
    if problems:
        raise PoolsFileError(source, problems)
    return pools


def _pool(index: int, raw: Mapping[str, Any], problems: list[str], around: Surroundings) -> PoolSpec:
    table = Table(_where("pool", "pools", index, raw), raw, problems)
    models = tuple(
        _model(table.where, number, item, problems, around)
        for number, item in enumerate(table.tables("models", MAX_MODELS_PER_POOL))
    )
    pool = PoolSpec(
        name=table.text("name", form=_NAME, wanted=_NAME_WORDS),
        accelerator=table.text("accelerator", form=_LABEL, wanted=_LABEL_WORDS),
        market=table.member("market", Market),
        price_per_hour=NanoUsd(table.nano_usd("price_per_hour", MAX_USD_PER_HOUR)),
        servers=_servers(table, around.environment),
        max_in_flight=table.integer("max_in_flight", 1, MAX_IN_FLIGHT),
        models=models,
    )
    for name in _repeated(model.name for model in models):
        table.problem("models", f"has {name!r} twice")
    table.finish()
    return pool


def _model(pool: str, index: int, raw: Mapping[str, Any], problems: list[str], around: Surroundings) -> ModelSpec:
    table = Table(f"{pool}: {_where('model', 'models', index, raw)}", raw, problems)
    name = table.text("name", form=_NAME, wanted=_NAME_WORDS)
    model = ModelSpec(
        name=name,
        tier=table.member("tier", Tier),
        weights=table.text("weights", form=_LABEL, wanted=_LABEL_WORDS),
        quantization=table.text("quantization", form=_LABEL, wanted=_LABEL_WORDS),
        triton_model=table.text("triton_model", default=name or "?"),
        adapter=_adapter(table, around.adapters),
        context_tokens=table.integer("context_tokens", 1, MAX_CONTEXT_TOKENS),
        chat_template=_template(table, around.template),
        markers=Markers(
            (*table.texts("control_tokens", required=False, limit=MAX_CONTROL_TOKENS), *_tokens(table, around))
        ),
        stop=table.texts("stop", required=False, limit=MAX_MODEL_STOPS),
        notes=table.text("notes", default=""),
    )
    table.finish()
    return model


def _adapter(table: Table, known: Collection[str]) -> str:
    adapter = table.text("adapter")
    if adapter and adapter not in known:
        table.problem("adapter", f"is {adapter!r}, must be one of {', '.join(sorted(known))}")
    return adapter


def _named(templates: Mapping[str, str], read: Callable[[str], str]) -> Callable[[str], str]:
    """Reads templates that may be given by their name in the file's own [chat_templates] table."""
    return lambda value: read(templates.get(value, value))


def _template(table: Table, read: Callable[[str], str]) -> str | None:
    """The template's source."""
    value = table.text("chat_template", default="")
    if not value:
        return None
    try:
        return read(value)
    except ValueError as error:
        table.problem("chat_template", str(error))
        return None


def _tokens(table: Table, around: Surroundings) -> Collection[str]:
    """The control tokens of the model's own tokenizer file."""
    value = table.text("tokenizer", default="")
    if not value:
        return ()
    try:
        return around.tokenizer(value)
    except ValueError as error:
        table.problem("tokenizer", str(error))
        return ()


def _servers(table: Table, environment: Mapping[str, str]) -> tuple[ServerAddress, ...]:
    """The addresses with their variables filled in; one variable may hold several, separated by commas."""
    found: list[ServerAddress] = []
    for entry in table.texts("triton", limit=MAX_SERVERS_PER_POOL):
        try:
            addresses = substitute(entry, environment).split(",")
        except ValueError as error:
            table.problem("triton", str(error))
            continue
        found += [ServerAddress(address.strip()) for address in addresses]
    for address in found:
        match = _ADDRESS.fullmatch(address)
        if match is None or not 0 < int(match[1]) < 65536:
            table.problem("triton", f"has {address!r}, must be host:port")
    return tuple(found)


def substitute(text: str, environment: Mapping[str, str]) -> str:
    """The text with ${NAME} and ${NAME:-default} filled in. Raises ValueError for a variable that has no value."""

    def value(match: re.Match[str]) -> str:
        filled = environment.get(match[1]) or match[2]
        if not filled:
            raise ValueError(f"needs the environment variable {match[1]}, which is not set")
        return filled

    filled = _VARIABLE.sub(value, text)
    if "${" in filled:
        raise ValueError(f"has {text!r}, variables are written ${{NAME}} or ${{NAME:-default}}")
    return filled


def _across(pools: tuple[PoolSpec, ...]) -> Iterable[str]:
    """What no single pool shows: names, servers and models that contradict each other."""
    for name in _repeated(pool.name for pool in pools):
        yield f'pool "{name}": name: is used by more than one pool'
    for address in _repeated(address for pool in pools for address in pool.servers):
        yield f"triton: {address} is listed twice; its work would be counted apart"
    first: dict[str, ModelSpec] = {}
    for pool in pools:
        for model in pool.models:
            known = first.setdefault(model.name, model)
            if (known.tier, known.weights) != (model.tier, model.weights):
                yield f'pool "{pool.name}": model "{model.name}": tier and weights must be the same in every pool'


def _where(kind: str, key: str, index: int, raw: Mapping[str, Any]) -> str:
    name = raw.get("name")
    return f'{kind} "{name}"' if isinstance(name, str) and name else f"{key}[{index}]"


def _repeated(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if value and count > 1]
