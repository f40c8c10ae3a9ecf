"""Prompts, events and models as messages of farthing.gateway.v1."""

from __future__ import annotations

from google.protobuf.duration_pb2 import Duration

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1.model_pb2 import CacheLevel, FinishReason, Task, Tier
from farthing.type.v1.model_pb2 import Sampling as SamplingMessage
from farthing_gateway.domain.acceptance import Limits
from farthing_gateway.domain.analysis import Analysis
from farthing_gateway.domain.catalogue import Catalogue
from farthing_gateway.domain.errors import invalid_fields
from farthing_gateway.domain.events import Decision, Degradation, Delta, Event, Final, ModelCall
from farthing_gateway.domain.judge import Verdict
from farthing_gateway.domain.options import TierOption
from farthing_gateway.domain.prompt import AskedSampling, CacheControl, Message, Prompt
from farthing_gateway.domain.routing import Routing
from farthing_kit.errors import FieldViolation
from farthing_kit.wire import money_to_message, prices_to_message, span_from_message, usage_to_message

_NOT_ASKED = AskedSampling()
_NO_CONTROL = CacheControl()


def prompt_from_message(message: pb.Prompt, limits: Limits) -> Prompt:
    """The prompt as it came, unchecked but for how many there are of what there may be many: nothing is built of more.
    InvalidArgument names each list that is too long."""
    _require_counts(message, limits)
    return Prompt(
        messages=tuple(Message(each.role, each.content) for each in message.messages),
        sampling=_sampling(message.sampling) if message.HasField("sampling") else _NOT_ASKED,
        tier=message.tier,
        model=message.model,
        cache_control=_cache_control(message.cache_control) if message.HasField("cache_control") else _NO_CONTROL,
        priority=message.priority,
        tags=dict(message.tags),
        idempotency_key=message.idempotency_key,
        session_id=message.session_id,
        quality_floor=message.quality_floor if message.HasField("quality_floor") else None,
    )


def _require_counts(message: pb.Prompt, limits: Limits) -> None:
    violations = [
        FieldViolation(f"prompt.{field}", f"are {count}, must be at most {most}")
        for field, count, most in (
            ("messages", len(message.messages), limits.messages),
            ("sampling.stop", len(message.sampling.stop), limits.stops),
            ("tags", len(message.tags), limits.tags),
            ("cache_control.tags", len(message.cache_control.tags), limits.tags),
        )
        if count > most
    ]
    if violations:
        raise invalid_fields(violations)


def event_to_message(event: Event) -> pb.GenerateResponse:
    """One message of the stream."""
    match event:
        case Decision():
            return pb.GenerateResponse(decision=decision_to_message(event))
        case Delta():
            return pb.GenerateResponse(delta=pb.Delta(text=event.text))
        case Final():
            return pb.GenerateResponse(final=final_to_message(event))


def decision_to_message(decision: Decision) -> pb.Decision:
    """What was decided."""
    return pb.Decision(
        request_id=decision.request_id,
        cache_level=CacheLevel.ValueType(decision.cache_level),
        similarity=decision.similarity,
        tier=Tier.ValueType(decision.tier),
        model=decision.model,
        quantization=decision.quantization,
        pool=decision.pool,
        analysis=_analysis(decision.analysis) if decision.analysis is not None else None,
        reservation_id=decision.reservation_id,
        reserved=money_to_message(decision.reserved) if decision.reserved is not None else None,
        explanation=decision.explanation,
        degradations=[_degradation(degradation) for degradation in decision.degradations],
        routing=_routing(decision.routing) if decision.routing is not None else None,
        buffered=decision.buffered,
    )


def final_to_message(final: Final) -> pb.Final:
    """How it ended."""
    return pb.Final(
        finish_reason=FinishReason.ValueType(final.finish_reason),
        usage=usage_to_message(final.usage),
        cost=money_to_message(final.costs.cost),
        counterfactual_cost=money_to_message(final.costs.counterfactual),
        saved=money_to_message(final.costs.saved),
        time_to_first_token=_duration(final.time_to_first_token_s),
        duration=_duration(final.duration_s),
        calls=[_call(call) for call in final.calls],
    )


def catalogue_to_message(catalogue: Catalogue) -> pb.ListModelsResponse:
    """The models, cheapest first, as the catalogue orders them."""
    return pb.ListModelsResponse(
        models=[
            pb.Model(
                name=model.name,
                tier=Tier.ValueType(model.tier),
                weights=model.weights,
                quantization=model.quantization,
                prices=prices_to_message(catalogue.prices[model.name].prices)
                if model.name in catalogue.prices
                else None,
                available=model.available,
                context_tokens=model.context_tokens,
            )
            for model in catalogue.models
        ]
    )


def _sampling(message: SamplingMessage) -> AskedSampling:
    return AskedSampling(
        max_output_tokens=message.max_output_tokens if message.HasField("max_output_tokens") else None,
        temperature=message.temperature if message.HasField("temperature") else None,
        top_p=message.top_p if message.HasField("top_p") else None,
        seed=message.seed,
        stop=tuple(message.stop),
    )


def _cache_control(message: pb.CacheControl) -> CacheControl:
    asked = message.HasField("max_age")
    max_age = span_from_message(message.max_age, "prompt.cache_control.max_age") if asked else None
    min_score = message.min_score if message.HasField("min_score") else None
    return CacheControl(message.no_cache, message.no_store, max_age, tuple(message.tags), min_score)


def _analysis(analysis: Analysis) -> pb.Analysis:
    return pb.Analysis(
        complexity=analysis.complexity,
        task=Task.ValueType(analysis.task),
        expected_output_tokens=analysis.expected_output_tokens,
        uncertainty=analysis.uncertainty,
        flags=[flag.name for flag in sorted(analysis.flags)],
        model_version=analysis.model_version,
        calibration_version=analysis.calibration_version,
    )


def _routing(routing: Routing) -> pb.Routing:
    return pb.Routing(
        options=[_option(option) for option in routing.options],
        quality_floor=routing.quality_floor,
        budget_pace=routing.budget_pace,
        reason=pb.RoutingReason.ValueType(routing.reason),
    )


def _option(option: TierOption) -> pb.TierOption:
    expected = option.expected_cost
    return pb.TierOption(
        tier=Tier.ValueType(option.tier),
        model=option.model.name if option.model is not None else "",
        success=option.success,
        expected_cost=money_to_message(expected) if expected is not None else None,
    )


def _call(call: ModelCall) -> pb.ModelCall:
    return pb.ModelCall(
        request_id=call.request_id,
        model=call.model,
        tier=Tier.ValueType(call.tier),
        usage=usage_to_message(call.usage),
        cost=money_to_message(call.cost),
        verdict=_verdict(call.verdict) if call.verdict is not None else None,
    )


def _verdict(verdict: Verdict) -> pb.Verdict:
    return pb.Verdict(
        acceptable=verdict.opinion.acceptable,
        threshold=verdict.threshold,
        accepted=verdict.accepted,
        findings=verdict.opinion.findings,
    )


def _degradation(degradation: Degradation) -> pb.Degradation:
    return pb.Degradation(part=pb.Degradation.Part.ValueType(degradation.part), consequence=degradation.consequence)


def _duration(seconds: float) -> Duration:
    whole, nanos = divmod(round(seconds * 1e9), 10**9)
    return Duration(seconds=whole, nanos=nanos)
