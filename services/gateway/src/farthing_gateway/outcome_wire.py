"""What was foretold and what happened as messages of farthing.gateway.v1, and back."""

from __future__ import annotations

from datetime import UTC

from google.protobuf.timestamp_pb2 import Timestamp

from farthing.gateway.v1 import outcome_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_gateway.domain.model import CacheLevel, Task, Tier
from farthing_gateway.domain.outcomes import Foretold, Observed, Outcome, OutcomeSource


def foretold_to_message(told: Foretold) -> pb.ObservedOutcome:
    """What was foretold, with nothing observed yet."""
    moment = Timestamp()
    moment.FromDatetime(told.decided_at)
    return pb.ObservedOutcome(
        request_id=told.request_id,
        org=told.org,
        decide_time=moment,
        tier=model_pb2.Tier.ValueType(told.tier),
        model=told.model,
        task=model_pb2.Task.ValueType(told.task),
        score=told.score,
        success=told.success,
        model_version=told.model_version,
        calibration_version=told.calibration_version,
        cache_level=model_pb2.CacheLevel.ValueType(told.cache_level),
        cascade=told.cascade,
        cache_lookup_id=told.lookup_id,
    )


def foretold_from_message(message: pb.ObservedOutcome) -> Foretold:
    """What was foretold. ValueError for numbers of a newer contract."""
    return Foretold(
        request_id=message.request_id,
        org=message.org,
        decided_at=message.decide_time.ToDatetime(UTC),
        tier=Tier(message.tier),
        model=message.model,
        task=Task(message.task),
        score=message.score,
        success=message.success,
        model_version=message.model_version,
        calibration_version=message.calibration_version,
        cache_level=CacheLevel(message.cache_level),
        cascade=message.cascade,
        lookup_id=message.cache_lookup_id,
    )


def observed_to_message(observed: Observed) -> pb.ObservedOutcome:
    """What was foretold and what happened."""
    message = foretold_to_message(observed.foretold)
    message.outcome = pb.Outcome.ValueType(observed.outcome)
    message.source = pb.OutcomeSource.ValueType(observed.source)
    return message


def observed_from_message(message: pb.ObservedOutcome) -> Observed:
    """What was foretold and what happened. ValueError for numbers of a newer contract."""
    return Observed(foretold_from_message(message), Outcome(message.outcome), OutcomeSource(message.source))
