"""Every name that leaves the mesh in a span, a metric or a log line. What is not here is dropped on export.

OpenTelemetry GenAI names where they exist (semantic-conventions-genai), `farthing.*` otherwise. No name here may ever
hold text that a tenant wrote.
"""

from __future__ import annotations

from typing import Final


class Attr:
    """Span attributes: the allow-list of the exporter."""

    # gRPC
    RPC_SYSTEM: Final = "rpc.system"
    RPC_SERVICE: Final = "rpc.service"
    RPC_METHOD: Final = "rpc.method"
    RPC_STATUS: Final = "rpc.grpc.status_code"
    RPC_MESSAGES: Final = "farthing.rpc.messages"
    SERVER_ADDRESS: Final = "server.address"
    SERVER_PORT: Final = "server.port"
    ERROR_TYPE: Final = "error.type"

    # Messaging
    MESSAGING_SYSTEM: Final = "messaging.system"
    MESSAGING_OPERATION: Final = "messaging.operation.name"
    MESSAGING_DESTINATION: Final = "messaging.destination.name"
    MESSAGING_MESSAGE_ID: Final = "messaging.message.id"

    # Stores
    DB_SYSTEM: Final = "db.system.name"
    DB_OPERATION: Final = "db.operation.name"

    # GenAI
    GENAI_OPERATION: Final = "gen_ai.operation.name"
    GENAI_PROVIDER: Final = "gen_ai.provider.name"
    GENAI_REQUEST_MODEL: Final = "gen_ai.request.model"
    GENAI_REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
    GENAI_REQUEST_TEMPERATURE: Final = "gen_ai.request.temperature"
    GENAI_REQUEST_TOP_P: Final = "gen_ai.request.top_p"
    GENAI_REQUEST_STREAM: Final = "gen_ai.request.stream"
    GENAI_RESPONSE_ID: Final = "gen_ai.response.id"
    GENAI_RESPONSE_MODEL: Final = "gen_ai.response.model"
    GENAI_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
    GENAI_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
    GENAI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
    GENAI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
    GENAI_CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
    GENAI_CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
    GENAI_REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
    GENAI_COST_AMOUNT: Final = "gen_ai.usage.cost.amount"
    GENAI_COST_CURRENCY: Final = "gen_ai.usage.cost.currency"
    GENAI_COST_SOURCE: Final = "gen_ai.usage.cost.source"

    # Farthing
    REQUEST_ID: Final = "farthing.request.id"
    ORG: Final = "farthing.org"
    TEAM: Final = "farthing.team"
    ROLE: Final = "farthing.role"
    PRIORITY: Final = "farthing.priority"
    REASON: Final = "farthing.error.reason"
    ERROR_ID: Final = "farthing.error.id"
    TIER: Final = "farthing.tier"
    MODEL: Final = "farthing.model"
    POOL: Final = "farthing.pool"
    REPLICA: Final = "farthing.replica"
    QUANTIZATION: Final = "farthing.quantization"
    CACHE_LEVEL: Final = "farthing.cache.level"
    CACHE_SIMILARITY: Final = "farthing.cache.similarity"
    CACHE_HIT: Final = "farthing.cache.hit"
    DEGRADED: Final = "farthing.degraded"
    TASK: Final = "farthing.classifier.task"
    ROUTING_REASON: Final = "farthing.routing.reason"
    CASCADE_ENDING: Final = "farthing.cascade.ending"
    COMPLEXITY: Final = "farthing.classifier.complexity"
    STAGE: Final = "farthing.classifier.stage"
    NO_SIGNAL: Final = "farthing.classifier.no_signal"
    EXPECTED_OUTPUT_TOKENS: Final = "farthing.classifier.expected_output_tokens"
    RESERVATION_ID: Final = "farthing.reservation.id"
    RESERVED_NANO_USD: Final = "farthing.reservation.nano_usd"
    COST_NANO_USD: Final = "farthing.cost.nano_usd"
    COUNTERFACTUAL_NANO_USD: Final = "farthing.cost.counterfactual_nano_usd"
    SAVED_NANO_USD: Final = "farthing.cost.saved_nano_usd"
    PRICE_VERSION: Final = "farthing.price.version"
    QUEUE_WAIT_MS: Final = "farthing.queue.wait_ms"
    ATTEMPT: Final = "farthing.attempt"
    FINISH_REASON: Final = "farthing.finish_reason"
    COUNT: Final = "farthing.count"


class SpanName:
    """Spans that are not RPCs (those are named "package.Service/Method")."""

    CHAT: Final = "chat"
    NEAR_CACHE: Final = "near_cache.lookup"
    CHOOSE: Final = "choose"
    ENCODE: Final = "encode"
    CACHE_LOOKUP: Final = "cache.lookup"
    CACHE_STORE: Final = "cache.store"
    JOB_PUBLISH: Final = "job.publish"
    JOB_RUN: Final = "job.run"
    REPLY_PUBLISH: Final = "reply.publish"
    TRITON: Final = "triton.infer"
    RESERVE: Final = "reserve"
    SETTLE: Final = "settle"
    USAGE_FOLD: Final = "usage.fold"
    USAGE_PUBLISH: Final = "usage.publish"


class MetricName:
    """Prometheus metrics. Labels hold names of our own things (service, method, model, pool), never a tenant's text."""

    RPC_SECONDS: Final = "farthing_rpc_seconds"
    RPC_IN_FLIGHT: Final = "farthing_rpc_in_flight"
    RPC_SHED: Final = "farthing_rpc_shed_total"
    CLIENT_SECONDS: Final = "farthing_client_rpc_seconds"
    OUTBOX_PENDING: Final = "farthing_outbox_pending_records"
    OUTBOX_BYTES: Final = "farthing_outbox_journal_bytes"
    OUTBOX_PUBLISHED: Final = "farthing_outbox_published_total"
    OUTBOX_REFUSED: Final = "farthing_outbox_refused_total"
    OUTBOX_DAMAGED: Final = "farthing_outbox_damaged_total"
    OUTBOX_DAMAGED_FILES: Final = "farthing_outbox_damaged_files"
    OUTBOX_SET_ASIDE: Final = "farthing_outbox_set_aside_records"
    TASK_DEATHS: Final = "farthing_task_deaths_total"
    NATS_RECONNECTS: Final = "farthing_nats_reconnects_total"
    DEPENDENCY_UP: Final = "farthing_dependency_up"

    REQUESTS: Final = "farthing_requests_total"
    REQUEST_SECONDS: Final = "farthing_request_seconds"
    TIME_TO_FIRST_TOKEN: Final = "farthing_time_to_first_token_seconds"
    TIME_PER_OUTPUT_TOKEN: Final = "farthing_time_per_output_token_seconds"
    TOKENS: Final = "farthing_tokens_total"
    COST_NANO_USD: Final = "farthing_cost_nano_usd_total"
    SAVED_NANO_USD: Final = "farthing_saved_nano_usd_total"
    DEGRADED: Final = "farthing_degraded_total"
    ROUTED: Final = "farthing_routed_total"
    CASCADES: Final = "farthing_cascades_total"
    NEAR_CACHE_ENTRIES: Final = "farthing_near_cache_entries"
    NEAR_CACHE_BYTES: Final = "farthing_near_cache_bytes"
    SEMANTIC_LOOKUPS: Final = "farthing_semantic_lookups_total"
    FLIGHTS: Final = "farthing_flights_total"
    FORETOLD_DROPPED: Final = "farthing_foretold_dropped_total"
    SHADOWS: Final = "farthing_shadows_total"
    CACHE_LOOKUPS: Final = "farthing_cache_lookups_total"
    CACHE_STORES: Final = "farthing_cache_stores_total"
    CACHE_COMPARED: Final = "farthing_cache_compared_total"
    CACHE_CLAIMS: Final = "farthing_cache_claims_total"
    CLASSIFY_SECONDS: Final = "farthing_classify_seconds"
    CLASSIFIED_FLAGS: Final = "farthing_classified_flags_total"
    CLASSIFIER_DRIFT: Final = "farthing_classifier_drift_index"
    CLASSIFIER_DRIFT_PROMPTS: Final = "farthing_classifier_drift_prompts"
    CLASSIFIER_DRIFTED: Final = "farthing_classifier_drifted"
    ENCODE_BATCH: Final = "farthing_encode_batch_size"
    JUDGE_SECONDS: Final = "farthing_judge_seconds"
    JUDGE_FINDINGS: Final = "farthing_judge_findings_total"
    QUEUE_WAIT_SECONDS: Final = "farthing_queue_wait_seconds"
    QUEUE_DEPTH: Final = "farthing_queue_depth"
    JOBS: Final = "farthing_jobs_total"
    JOBS_RUNNING: Final = "farthing_jobs_running"
    POOL_IN_FLIGHT: Final = "farthing_pool_in_flight"
    POOL_REPLICAS_UP: Final = "farthing_pool_replicas_up"
    INFERENCE_SECONDS: Final = "farthing_inference_seconds"
    RESERVATIONS: Final = "farthing_reservations_total"
    RESERVE_SECONDS: Final = "farthing_reserve_seconds"
    RESERVATIONS_EXPIRED: Final = "farthing_reservations_expired_total"
    USAGE_EVENTS: Final = "farthing_usage_events_total"
    LEDGER_SECONDS: Final = "farthing_ledger_seconds"


class LogField:
    """Fields of log lines beside time, level, service, event, trace_id, span_id and request_id."""

    FIELDS: Final = frozenset(
        {
            "address", "attempt", "attempts", "backend", "bytes", "cause", "code", "count", "deadline_ms", "dependency",
            "duration_ms", "error", "error_id", "exit_code", "file", "interval_ms", "key_id", "kind", "level_name",
            "limit", "method", "metrics_address", "model", "name", "org", "path", "pid", "pool", "port", "priority",
            "offset", "queue", "reason", "records", "remaining", "replica", "role", "server", "setting", "signal",
            "state", "status", "stream", "subject", "target", "task", "team", "tier", "tokens", "url", "version",
            "wait_ms",
        }
    )  # fmt: skip


def _values(namespace: type) -> frozenset[str]:
    return frozenset(value for key, value in vars(namespace).items() if key.isupper() and isinstance(value, str))


ATTRIBUTES: Final = _values(Attr)
SPANS: Final = _values(SpanName)
METRICS: Final = _values(MetricName)
LOG_FIELDS: Final = LogField.FIELDS
