"""Requests as metrics, and as attributes of the span that the server opened for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from opentelemetry import trace
from opentelemetry.util.types import AttributeValue

from farthing_gateway.domain.cascade import Ending
from farthing_gateway.domain.events import Decision, Final, ModelCall
from farthing_gateway.domain.model import CacheLevel, Tier
from farthing_gateway.domain.prompt import Question
from farthing_kit.context import RequestContext
from farthing_kit.money import CURRENCY, NANOS_PER_USD
from farthing_kit.telemetry import Attr, MetricName, Metrics


class TelemetryObserver:
    """The Observer port. Children of labelled metrics are looked up once: the near path is short."""

    def __init__(self, metrics: Metrics) -> None:
        by = ("cache", "tier", "model")
        self._requests = metrics.counter(MetricName.REQUESTS, "Requests that were answered.", by)
        self._seconds = metrics.histogram(MetricName.REQUEST_SECONDS, "Seconds until the last token.", by)
        self._first = metrics.histogram(MetricName.TIME_TO_FIRST_TOKEN, "Seconds until the first token.", by)
        self._tokens = metrics.counter(MetricName.TOKENS, "Tokens that models processed.", (*by, "kind"))
        self._cost = metrics.counter(MetricName.COST_NANO_USD, "What requests cost.", by)
        self._saved = metrics.counter(
            MetricName.SAVED_NANO_USD, "What requests cost less than the counterfactual; dearer ones count 0.", by
        )
        self._degraded = metrics.counter(MetricName.DEGRADED, "Requests served without a part of the mesh.", ("part",))
        by_reason = ("reason", "tier")
        self._routed = metrics.counter(MetricName.ROUTED, "Requests that went to a tier, by what decided.", by_reason)
        self._cascades = metrics.counter(MetricName.CASCADES, "Cascades, by how they ended.", ("ending",))
        self._searches = metrics.counter(
            MetricName.SEMANTIC_LOOKUPS, "Look-ups by meaning, by what came of them.", ("result",)
        )
        self._flights = metrics.counter(
            MetricName.FLIGHTS, "Requests that could share an answer under way, by what they did.", ("role",)
        )
        self._near_entries = metrics.gauge(MetricName.NEAR_CACHE_ENTRIES, "Answers in the near cache.")
        self._near_bytes = metrics.gauge(MetricName.NEAR_CACHE_BYTES, "Bytes of the near cache.")
        self._children: dict[tuple[str, str, str], dict[str, Any]] = {}

    def accepted(self, context: RequestContext, question: Question) -> None:
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(_of_request(context, question))

    def decided(self, decision: Decision) -> None:
        for degradation in decision.degradations:
            self._degraded.labels(degradation.part.name.lower()).inc()
        if decision.routing is not None:
            self._routed.labels(decision.routing.reason.name.lower(), decision.tier.name.lower()).inc()
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(_of_decision(decision))

    def ended(self, decision: Decision, final: Final) -> None:
        children = self._of(decision.cache_level, decision.tier, decision.model)
        children["requests"].inc()
        children["seconds"].observe(final.duration_s)
        children["first"].observe(final.time_to_first_token_s)
        if final.costs.saved > 0:
            children["saved"].inc(final.costs.saved)
        if not final.calls:
            children["cost"].inc(final.costs.cost)  # of a hit; 0 for most, and for what is told again
        for call in final.calls:
            children = self._of(decision.cache_level, call.tier, call.model)
            for name, amount in _amounts(call):
                if amount > 0:
                    children[name].inc(amount)
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attributes(_of_final(final))

    def cascaded(self, ending: Ending) -> None:
        self._cascades.labels(ending.value).inc()
        span = trace.get_current_span()
        if span.is_recording():
            span.set_attribute(Attr.CASCADE_ENDING, ending.value)

    def searched(self, result: str) -> None:
        self._searches.labels(result).inc()

    def flew(self, role: str) -> None:
        self._flights.labels(role).inc()

    def near_size(self, entries: int, size_bytes: int) -> None:
        self._near_entries.set(entries)
        self._near_bytes.set(size_bytes)

    def _of(self, level: CacheLevel, tier: Tier, model: str) -> dict[str, Any]:
        labels = (level.name.lower(), tier.name.lower(), model)
        found = self._children.get(labels)
        if found is None:
            found = self._children[labels] = {
                "requests": self._requests.labels(*labels),
                "seconds": self._seconds.labels(*labels),
                "first": self._first.labels(*labels),
                "input": self._tokens.labels(*labels, "input"),
                "output": self._tokens.labels(*labels, "output"),
                "cost": self._cost.labels(*labels),
                "saved": self._saved.labels(*labels),
            }
        return found


def _amounts(call: ModelCall) -> tuple[tuple[str, int], ...]:
    return (("input", call.usage.input_total), ("output", call.usage.output_total), ("cost", call.cost))


def _of_request(context: RequestContext, question: Question) -> Mapping[str, AttributeValue]:
    sampling, principal = question.sampling, context.principal
    return {
        Attr.GENAI_OPERATION: "chat",
        Attr.GENAI_PROVIDER: "farthing",
        Attr.GENAI_REQUEST_MAX_TOKENS: sampling.max_output_tokens,
        Attr.GENAI_REQUEST_TEMPERATURE: sampling.temperature,
        Attr.GENAI_REQUEST_TOP_P: sampling.top_p,
        Attr.REQUEST_ID: context.request_id,
        Attr.ORG: principal.org,
        Attr.TEAM: principal.team,
        Attr.ROLE: context.role.name,
        Attr.PRIORITY: context.priority.name,
    }


def _of_decision(decision: Decision) -> Mapping[str, AttributeValue]:
    found: dict[str, AttributeValue] = {
        Attr.GENAI_REQUEST_MODEL: decision.model,
        Attr.GENAI_RESPONSE_MODEL: decision.model,
        Attr.GENAI_RESPONSE_ID: decision.request_id,
        Attr.CACHE_LEVEL: decision.cache_level.name,
        Attr.CACHE_SIMILARITY: decision.similarity,
        Attr.TIER: decision.tier.name,
        Attr.MODEL: decision.model,
        Attr.QUANTIZATION: decision.quantization,
        Attr.POOL: decision.pool,
        Attr.RESERVATION_ID: decision.reservation_id,
        Attr.DEGRADED: [degradation.part.name for degradation in decision.degradations],
    }
    if decision.reserved is not None:
        found[Attr.RESERVED_NANO_USD] = decision.reserved
    if decision.routing is not None:
        found[Attr.ROUTING_REASON] = decision.routing.reason.name
    if decision.analysis is not None:
        found[Attr.TASK] = decision.analysis.task.name
        found[Attr.COMPLEXITY] = decision.analysis.complexity
        found[Attr.EXPECTED_OUTPUT_TOKENS] = decision.analysis.expected_output_tokens
    return found


def _of_final(final: Final) -> Mapping[str, AttributeValue]:
    usage, costs = final.usage, final.costs
    return {
        Attr.GENAI_FINISH_REASONS: [final.finish_reason.name.lower()],
        Attr.FINISH_REASON: final.finish_reason.name,
        Attr.GENAI_TIME_TO_FIRST_CHUNK: final.time_to_first_token_s,
        Attr.GENAI_INPUT_TOKENS: usage.input_total,
        Attr.GENAI_OUTPUT_TOKENS: usage.output_total,
        Attr.GENAI_CACHE_READ_TOKENS: usage.cache_read,
        Attr.GENAI_CACHE_WRITE_TOKENS: usage.cache_write,
        Attr.GENAI_REASONING_TOKENS: usage.reasoning,
        Attr.GENAI_COST_AMOUNT: costs.cost / NANOS_PER_USD,  # a float for dashboards; the exact one is beside it
        Attr.GENAI_COST_CURRENCY: CURRENCY,
        Attr.GENAI_COST_SOURCE: "farthing",
        Attr.COST_NANO_USD: costs.cost,
        Attr.COUNTERFACTUAL_NANO_USD: costs.counterfactual,
        Attr.SAVED_NANO_USD: costs.saved,
    }
