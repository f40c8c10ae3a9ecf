"""The pools file: what it may say, and that each mistake is named with its file, pool and field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from farthing_inference.adapters import pools_file
from farthing_inference.adapters.triton.commands import DIALECTS
from farthing_inference.domain.pools import Market, PoolSpec, Tier
from farthing_inference.domain.pools_file import PoolsFileError

DEPLOYED = Path(__file__).parents[3] / "deploy/config"
ENVIRONMENT = {"TRITON": "t1:8001, t2:8001"}
MODEL: dict[str, Any] = {
    "name": "small",
    "tier": "small",
    "weights": "SmolLM2-135M-Instruct",
    "quantization": "INT4",
    "triton_model": "small",
    "adapter": "vllm",
    "context_tokens": 2048,
}
POOL: dict[str, Any] = {
    "name": "cpu-local",
    "accelerator": "CPU",
    "market": "owned",
    "price_per_hour": "0.08",
    "triton": ["127.0.0.1:8001"],
    "max_in_flight": 16,
}


def toml(pool: dict[str, Any], *models: dict[str, Any]) -> str:
    """One pool with its models as TOML; a value of None is left out."""
    parts = ["[[pools]]", *_lines(pool)]
    for model in models:
        parts += ["[[pools.models]]", *_lines(model)]
    return "\n".join(parts) + "\n"


def _lines(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {_value(value)}" for key, value in table.items() if value is not None]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if not isinstance(value, str) else '"' + value.replace('"', '\\"') + '"'


def load(folder: Path, text: str) -> tuple[PoolSpec, ...]:
    path = folder / "pools.toml"
    path.write_text(text)
    return pools_file.load(path, ENVIRONMENT, {"vllm"})


def problems(folder: Path, text: str) -> tuple[str, ...]:
    with pytest.raises(PoolsFileError) as caught:
        load(folder, text)
    assert all(line.startswith(str(folder / "pools.toml")) for line in str(caught.value).splitlines())
    return caught.value.problems


def test_a_pool_is_read_with_exact_money(tmp_path: Path) -> None:
    (pool,) = load(tmp_path, toml(POOL, MODEL))
    assert (pool.name, pool.market, pool.price_per_hour, pool.servers) == (
        "cpu-local",
        Market.OWNED,
        80_000_000,
        ("127.0.0.1:8001",),
    )
    assert pool.models[0].tier is Tier.SMALL


def test_a_variable_may_hold_several_servers(tmp_path: Path) -> None:
    (pool,) = load(tmp_path, toml({**POOL, "triton": ["${TRITON}", "${OTHER:-t3:8001}"]}, MODEL))
    assert pool.servers == ("t1:8001", "t2:8001", "t3:8001")


def test_a_model_of_no_tier_is_allowed(tmp_path: Path) -> None:
    (pool,) = load(tmp_path, toml(POOL, {**MODEL, "tier": "none"}))
    assert pool.models[0].tier is Tier.NONE


def test_a_template_is_read_from_beside_the_file_or_taken_inline(tmp_path: Path) -> None:
    (tmp_path / "chat.jinja").write_text("{{ messages[0].content }}")
    inline = {**MODEL, "name": "medium", "tier": "medium", "chat_template": "{{ messages[0].content }}!"}
    (pool,) = load(tmp_path, toml(POOL, {**MODEL, "chat_template": "chat.jinja"}, inline))
    assert [model.chat_template for model in pool.models] == ["{{ messages[0].content }}", "{{ messages[0].content }}!"]


def test_a_template_may_be_named_once_for_several_models(tmp_path: Path) -> None:
    text = toml(POOL, {**MODEL, "chat_template": "short"}) + '[chat_templates]\nshort = "{{ messages[0].content }}"\n'
    (pool,) = load(tmp_path, text)
    assert pool.models[0].chat_template == "{{ messages[0].content }}"


WRONG_POOLS = [
    ({"name": "CPU local"}, "pool \"CPU local\": name: is 'CPU local', must be"),
    ({"name": None}, "pools[0]: name: is missing"),
    ({"name": 3}, "pools[0]: name: is a number, must be a string"),
    ({"accelerator": ""}, "accelerator: is empty"),
    ({"market": "rented"}, "market: is 'rented', must be one of on_demand, spot, reserved, owned"),
    ({"price_per_hour": 0.08}, "price_per_hour: is a number, must be dollars in quotes"),
    ({"price_per_hour": "cheap"}, "price_per_hour: is 'cheap', must be dollars"),
    ({"price_per_hour": "-1"}, "price_per_hour: is '-1', must be 0 to"),
    ({"price_per_hour": "NaN"}, "price_per_hour: is 'NaN', must be 0 to"),
    ({"price_per_hour": "1e-12"}, "price_per_hour: is '1e-12', must have at most 9 decimal places"),
    ({"price_per_hour": "1e999999"}, "price_per_hour: is '1e999999', must be 0 to"),
    ({"price_per_hour": "1e-999999"}, "price_per_hour: is '1e-999999', must have at most 9 decimal places"),
    ({"price_per_hour": f"0.08{'0' * 30}1"}, "must have at most 9 decimal places"),
    ({"triton": []}, "triton: is empty, must have at least one entry"),
    ({"triton": "127.0.0.1:8001"}, "triton: must be a list of strings"),
    ({"triton": ["127.0.0.1"]}, "triton: has '127.0.0.1', must be host:port"),
    ({"triton": ["h:70000"]}, "triton: has 'h:70000', must be host:port"),
    ({"triton": ["${NOWHERE}"]}, "triton: needs the environment variable NOWHERE, which is not set"),
    ({"triton": ["${NO WHERE}"]}, "triton: has '${NO WHERE}', variables are written"),
    ({"triton": ["h:1", "h:1"]}, "triton: h:1 is listed twice"),
    ({"max_in_flight": 0}, "max_in_flight: is 0, must be 1 to"),
    ({"max_in_flight": True}, "max_in_flight: is true or false, must be a whole number"),
    ({"max_inflight": 4}, "max_inflight: is not a field; did you mean max_in_flight?"),
]


@pytest.mark.parametrize(("change", "expected"), WRONG_POOLS)
def test_a_mistake_in_a_pool_is_named(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    found = problems(tmp_path, toml({**POOL, **change}, MODEL))
    assert len(found) == 1
    assert expected in found[0]


@pytest.mark.parametrize(
    "content",
    [
        {
            "added_tokens": [
                {"id": 0, "content": "<eos>", "special": True},
                {"id": 9, "content": "\n\n", "special": False},
            ]
        },
        {"added_tokens_decoder": {"0": {"content": "<eos>"}, "9": {"content": " "}}},
    ],
)
def test_control_tokens_come_from_the_models_own_tokenizer_too(tmp_path: Path, content: dict[str, Any]) -> None:
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    (pool,) = load(tmp_path, toml(POOL, {**MODEL, "tokenizer": "tokenizer.json", "control_tokens": ["<more>"]}))
    assert pool.models[0].markers.tokens == {"<eos>", "<more>"}


@pytest.mark.parametrize("content", ["{}", "[]", '"x"', '{"added_tokens": 3}', '{"added_tokens": [{}]}', "not json"])
def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / "tokenizer.json").write_text(content)
    (problem,) = problems(tmp_path, toml(POOL, {**MODEL, "tokenizer": "tokenizer.json"}))
    assert "tokenizer: tokenizer.json" in problem


WRONG_MODELS = [
    ({"name": "a.b"}, 'pool "cpu-local": model "a.b": name: is \'a.b\', must be'),
    ({"tier": None}, 'model "small": tier: is missing'),
    ({"tier": "tiny"}, "tier: is 'tiny', must be one of none, small, medium, large"),
    ({"adapter": "trtllm"}, "adapter: is 'trtllm', must be one of vllm"),
    ({"context_tokens": "many"}, "context_tokens: is a string, must be a whole number"),
    ({"chat_template": "no.jinja"}, "chat_template: no.jinja cannot be read: No such file"),
    ({"chat_template": "{% for x %}"}, "chat_template: is not a Jinja template: line 1"),
    ({"tokenizer": "no.json"}, "tokenizer: no.json cannot be read: No such file"),
    ({"control_tokens": [""]}, "control_tokens: must be a list of strings that are not empty"),
    ({"notes": 1}, "notes: is a number, must be a string"),
]


@pytest.mark.parametrize(("change", "expected"), WRONG_MODELS)
def test_a_mistake_in_a_model_is_named(tmp_path: Path, change: dict[str, Any], expected: str) -> None:
    found = problems(tmp_path, toml(POOL, {**MODEL, **change}))
    assert len(found) == 1
    assert expected in found[0]


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    found = problems(tmp_path, toml({**POOL, "market": "x", "max_in_flight": 0}, {**MODEL, "tier": "x"}))
    assert len(found) == 3


def test_pools_may_not_contradict_each_other(tmp_path: Path) -> None:
    other = {**MODEL, "weights": "Llama"}
    found = problems(tmp_path, toml(POOL, MODEL, MODEL) + toml({**POOL, "triton": ["h:1"]}, other))
    assert found == (
        "pool \"cpu-local\": models: has 'small' twice",
        'pool "cpu-local": name: is used by more than one pool',
        'pool "cpu-local": model "small": tier and weights must be the same in every pool',
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "pools: is missing"),
        ("pools = 3", "pools: must be at least one table"),
        ("chat_templates = 1", "chat_templates: must be a table of strings"),
        ("[[pools]", "is not TOML"),
        ("x = " + "[" * 5_000, "is not TOML"),
        ("x = " + "9" * 5_000, "is not TOML"),
        ("[[pools]]\nname = 'x'", 'pool "x": models: is missing'),
    ],
)
def test_a_file_that_is_no_pools_file_says_so(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in problems(tmp_path, text)[0]


def test_a_file_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    with pytest.raises(PoolsFileError, match=r"nowhere.toml: cannot be read: No such file"):
        pools_file.load(tmp_path / "nowhere.toml", {}, {"vllm"})


def test_a_byte_order_mark_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "pools.toml"
    path.write_bytes(b"\xef\xbb\xbf" + (DEPLOYED / "pools.toml").read_bytes())
    assert pools_file.load(path, {}, DIALECTS)


def test_a_file_that_is_not_utf_8_says_so(tmp_path: Path) -> None:
    path = tmp_path / "pools.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(PoolsFileError, match="is not UTF-8"):
        pools_file.load(path, {}, {"vllm"})


@pytest.mark.parametrize("name", ["pools.toml", "pools.gpu.example.toml"])
def test_the_files_that_come_with_farthing_are_valid(name: str) -> None:
    pools = pools_file.load(DEPLOYED / name, {}, DIALECTS)
    tiers = {model.tier for pool in pools for model in pool.models}
    assert {Tier.SMALL, Tier.MEDIUM, Tier.LARGE} <= tiers
    assert all(model.chat_template for pool in pools for model in pool.models if model.tier is not Tier.NONE)


@pytest.mark.parametrize(("model", "template"), [("small", "smollm2"), ("medium", "question_answer")])
def test_the_local_templates_are_those_of_the_local_triton(model: str, template: str) -> None:
    (pool,) = pools_file.load(DEPLOYED / "pools.toml", {}, DIALECTS)
    found = pool.model(model)
    assert found is not None
    assert found.chat_template == (DEPLOYED / f"triton/chat_templates/{template}.jinja").read_text()
