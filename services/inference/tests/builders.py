"""Pools, models and requests with sensible values, to be changed where a test cares."""

from __future__ import annotations

from typing import Any

from farthing_inference.domain.fleet import Fleet
from farthing_inference.domain.generation import Generation, Message, Role, Sampling
from farthing_inference.domain.pools import Market, ModelSpec, Placement, PoolSpec, ServerAddress, Tier
from farthing_kit.money import NanoUsd

USD = 1_000_000_000
A, B, C = ServerAddress("a:1"), ServerAddress("b:1"), ServerAddress("c:1")


def model(name: str = "echo", **changes: Any) -> ModelSpec:
    """A model without a template."""
    values: dict[str, Any] = {
        "name": name,
        "tier": Tier.NONE,
        "weights": "none",
        "quantization": "NONE",
        "triton_model": name,
        "adapter": "vllm",
        "context_tokens": 4096,
    }
    return ModelSpec(**{**values, **changes})


def pool(name: str = "p", *servers: ServerAddress, usd: float = 1, **changes: Any) -> PoolSpec:
    """A pool of one or more servers that serve "echo"."""
    values: dict[str, Any] = {
        "accelerator": "CPU",
        "market": Market.OWNED,
        "price_per_hour": NanoUsd(int(usd * USD)),
        "max_in_flight": 8,
        "models": (model(),),
    }
    return PoolSpec(name=name, servers=servers or (A,), **{**values, **changes})


def fleet(*pools: PoolSpec) -> Fleet:
    """A fleet whose servers are all up, with all models ready."""
    made = Fleet(pools)
    for spec in pools:
        for server in spec.servers:
            made.answered(server, frozenset(item.triton_model for item in spec.models))
    return made


def placement(server: ServerAddress = A, spec: ModelSpec | None = None) -> Placement:
    """A place for a generation."""
    chosen = spec or model()
    return Placement(pool("p", server, models=(chosen,)), server, chosen)


def generation(text: str = "to be or not to be", **changes: Any) -> Generation:
    """One user message to the model "echo"."""
    sampling = changes.pop("sampling", Sampling(max_output_tokens=256))
    values: dict[str, Any] = {"model": "echo", "messages": (Message(Role.USER, text),)}
    return Generation(**{**values, **changes}, sampling=sampling)
