"""`farthing ask`: one question, streamed, with one line on what it took."""

from collections.abc import Sequence

from rich.console import Group, RenderableType

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_cli.console import Table, say_json, say_lines, stream
from farthing_cli.generation import Answer, Gateway, cache_name, finish_name, tier_name
from farthing_cli.mesh import Mesh
from farthing_cli.money import dollars, share
from farthing_kit.client import channel

MODELS_TIMEOUT_S = 10.0


async def ask(mesh: Mesh, prompt: pb.Prompt, *, org: str | None, timeout_s: float, as_json: bool) -> Answer:
    """Ask, show the answer while it comes, end with the summary."""
    async with channel(mesh.require_gateway()) as opened:
        gateway = Gateway(opened, mesh.api_key(org), timeout_s)
        answer = await gateway.ask(prompt, show=_ignore if as_json else stream)
    if as_json:
        say_json(as_dict(answer))
    else:
        say_lines(["", "", *summary(answer)])
    return answer


def _ignore(text: str) -> None:
    del text


def summary(answer: Answer) -> list[str]:
    """Cache level, tier, model, pool, tokens, cost, saving, time, and the id to trace it by; then what was degraded."""
    decision, final, usage = answer.decision, answer.final, answer.final.usage
    place = f"pool {decision.pool}" if decision.pool else "no pool"
    saved, would = final.saved.nano_units, final.counterfactual_cost.nano_units
    parts = (
        f"cache {cache_name(decision.cache_level)}",
        tier_name(decision.tier),
        f"{decision.model} {decision.quantization}".strip(),
        place,
        f"{usage.fresh_input_tokens + usage.cache_read_tokens} + {usage.output_tokens} tokens",
        f"cost {dollars(final.cost.nano_units)}",
        f"saved {dollars(saved)} ({share(saved, would)})",
        f"{answer.duration_s * 1000:.0f} ms",
        decision.request_id,
    )
    degraded = [f"degraded: {each.consequence}" for each in decision.degradations]
    judged = [f"calls: {' · '.join(map(_call, final.calls))}"] if any(map(_is_judged, final.calls)) else []
    return [decision.explanation, *degraded, *judged, " · ".join(parts)]


def _is_judged(call: pb.ModelCall) -> bool:
    return call.HasField("verdict")


def _call(call: pb.ModelCall) -> str:
    """One call of a cascade, such as "small $0.000001 (judged 0.19 of 0.70: WRONG_ARITHMETIC)"."""
    text = f"{call.model} {dollars(call.cost.nano_units)}"
    if not _is_judged(call):
        return text
    found = f": {', '.join(call.verdict.findings)}" if call.verdict.findings else ""
    return f"{text} (judged {call.verdict.acceptable:.2f} of {call.verdict.threshold:.2f}{found})"


def explained(decision: pb.Decision) -> RenderableType:
    """What each tier was thought to be worth, and what decided: enough to do the sum again."""
    if not decision.HasField("routing"):
        return "Nothing was chosen: a cache answered, or the request named its tier or model."
    routing, analysis = decision.routing, decision.analysis
    facts = [f"by {reason_name(routing)}"]
    if routing.quality_floor:
        facts.append(f"floor {routing.quality_floor:.2f}")
    if routing.budget_pace:
        facts.append(f"budget pace {routing.budget_pace:.2f}")
    if decision.HasField("analysis"):
        facts += [f"task {task_name(analysis)}", f"complexity {analysis.complexity:.2f}", *analysis.flags]
    table = Table()
    for column in ("tier", "model", "success", "expected cost"):
        table.add_column(column, justify="right" if column in ("success", "expected cost") else "left")
    for option in routing.options:
        expected = dollars(option.expected_cost.nano_units) if option.HasField("expected_cost") else "–"
        chosen = "bold" if option.tier == decision.tier else None
        table.add_row(tier_name(option.tier), option.model or "–", f"{option.success:.3f}", expected, style=chosen)
    return Group(f"Routed {', '.join(facts)}", table)


def reason_name(routing: pb.Routing) -> str:
    """What decided, such as "quality floor"."""
    name = pb.RoutingReason.Name(routing.reason).removeprefix("ROUTING_REASON_")
    return name.lower().replace("_", " ")


def task_name(analysis: pb.Analysis) -> str:
    """The kind of work, such as "question answering"."""
    name = model_pb2.Task.Name(analysis.task).removeprefix("TASK_")
    return name.lower().replace("_", " ")


def as_dict(answer: Answer) -> dict[str, object]:
    """The same for programs. Money in nano-dollars, times in milliseconds."""
    decision, final = answer.decision, answer.final
    return {
        "request_id": decision.request_id,
        "text": answer.text,
        "finish_reason": finish_name(final.finish_reason),
        "cache_level": cache_name(decision.cache_level),
        "similarity": decision.similarity,
        "tier": tier_name(decision.tier),
        "model": decision.model,
        "quantization": decision.quantization,
        "pool": decision.pool,
        "explanation": decision.explanation,
        "routing": _routing_as_dict(decision),
        "degradations": [each.consequence for each in decision.degradations],
        "buffered": decision.buffered,
        "calls": [_call_as_dict(call) for call in final.calls],
        "reservation_id": decision.reservation_id,
        "reserved_nano_usd": decision.reserved.nano_units,
        "usage": {
            "fresh_input_tokens": final.usage.fresh_input_tokens,
            "cache_read_tokens": final.usage.cache_read_tokens,
            "cache_write_tokens": final.usage.cache_write_tokens,
            "output_tokens": final.usage.output_tokens,
            "reasoning_tokens": final.usage.reasoning_tokens,
        },
        "cost_nano_usd": final.cost.nano_units,
        "counterfactual_cost_nano_usd": final.counterfactual_cost.nano_units,
        "saved_nano_usd": final.saved.nano_units,
        "time_to_first_token_ms": round(answer.time_to_first_token_s * 1000, 3),
        "duration_ms": round(answer.duration_s * 1000, 3),
    }


def _call_as_dict(call: pb.ModelCall) -> dict[str, object]:
    verdict = call.verdict
    judged = {
        "acceptable": verdict.acceptable,
        "threshold": verdict.threshold,
        "accepted": verdict.accepted,
        "findings": list(verdict.findings),
    }
    return {
        "request_id": call.request_id,
        "model": call.model,
        "cost_nano_usd": call.cost.nano_units,
        "verdict": judged if _is_judged(call) else None,
    }


def _routing_as_dict(decision: pb.Decision) -> dict[str, object] | None:
    if not decision.HasField("routing"):
        return None
    routing = decision.routing
    return {
        "reason": reason_name(routing),
        "quality_floor": routing.quality_floor,
        "budget_pace": routing.budget_pace,
        "options": [
            {
                "tier": tier_name(option.tier),
                "model": option.model,
                "success": option.success,
                "expected_cost_nano_usd": option.expected_cost.nano_units,
            }
            for option in routing.options
        ],
    }


async def models(mesh: Mesh, org: str | None) -> list[pb.Model]:
    """The models that can be asked for."""
    async with channel(mesh.require_gateway()) as opened:
        return await Gateway(opened, mesh.api_key(org), MODELS_TIMEOUT_S).models()


def models_table(found: Sequence[pb.Model]) -> Table:
    """The models with their prices for a million tokens."""
    table = Table(title="Models; prices for a million tokens", title_justify="left")
    for column in ("name", "tier", "weights", "stored as", "context", "input", "output", "available"):
        table.add_column(column)
    for each in found:
        prices = (dollars(each.prices.fresh_input.nano_units), dollars(each.prices.output.nano_units))
        available = "yes" if each.available else "no"
        table.add_row(
            each.name,
            tier_name(each.tier),
            each.weights,
            each.quantization,
            f"{each.context_tokens:,}",
            *prices,
            available,
        )
    return table
