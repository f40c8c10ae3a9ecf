"""What became of answers: `farthing outcome` says it, `farthing outcomes` lists it as JSON lines."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from farthing.gateway.v1 import outcome_service_pb2 as pb
from farthing.gateway.v1 import outcome_service_pb2_grpc as pb_grpc
from farthing.type.v1 import model_pb2
from farthing_cli.generation import Gateway, cache_name, tier_name
from farthing_cli.mesh import Mesh
from farthing_kit.client import channel

VERDICTS: Final[Mapping[str, bool]] = {"good": True, "bad": False}
REPORT_TIMEOUT_S = 10.0
LIST_TIMEOUT_S = 120.0


async def report(mesh: Mesh, request_id: str, org: str | None, *, acceptable: bool) -> None:
    """Say whether an earlier answer was good enough."""
    async with channel(mesh.require_gateway()) as opened:
        await Gateway(opened, mesh.api_key(org), REPORT_TIMEOUT_S).report_outcome(request_id, acceptable=acceptable)


async def observed(mesh: Mesh, since: datetime | None) -> Sequence[pb.ObservedOutcome]:
    """Every outcome that the mesh keeps."""
    request = pb.ListOutcomesRequest()
    if since is not None:
        request.start_time.FromDatetime(since)
    async with mesh.as_operator("gateway") as opened:
        found = pb_grpc.OutcomeServiceStub(opened).ListOutcomes(request, timeout=LIST_TIMEOUT_S)
        return [response.observed async for response in found]


def as_dict(observed: pb.ObservedOutcome) -> dict[str, object]:
    """The fields of the contract, with words for its enums, as `farthing models recalibrate --outcomes` reads them."""
    return {
        "request_id": observed.request_id,
        "org": observed.org,
        "decide_time": _rfc3339(observed.decide_time),
        "tier": tier_name(observed.tier),
        "model": observed.model,
        "task": model_pb2.Task.Name(observed.task).removeprefix("TASK_").lower(),
        "score": observed.score,
        "success": observed.success,
        "model_version": observed.model_version,
        "calibration_version": observed.calibration_version,
        "outcome": pb.Outcome.Name(observed.outcome).removeprefix("OUTCOME_").lower(),
        "source": pb.OutcomeSource.Name(observed.source).removeprefix("OUTCOME_SOURCE_").lower(),
        "cache_level": cache_name(observed.cache_level),
        "cascade": observed.cascade,
        "cache_lookup_id": observed.cache_lookup_id.hex(),
    }


def _rfc3339(moment: Timestamp) -> str:
    return moment.ToDatetime(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
