"""Errors cross the wire and come back the same."""

import re
import subprocess
import sys
from pathlib import Path

import grpc
import grpc.aio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit import errors, status
from farthing_kit.errors import FarthingError, FieldViolation, QuotaViolation

PROTO = Path(__file__).parents[3] / "protos" / "farthing" / "type" / "v1" / "error_reason.proto"
texts = st.text(max_size=50)


def on_the_wire(error: FarthingError) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*status.trailers(error))
    return grpc.aio.AioRpcError(status.code_of(error), grpc.aio.Metadata(), trailing, error.message)


def bare(code: grpc.StatusCode, details: str = "") -> grpc.aio.AioRpcError:
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(), details)


def test_every_reason_has_a_status() -> None:
    assert set(status.STATUS_OF_REASON) == set(ErrorReason.values())


def test_statuses_are_those_that_the_contract_states() -> None:
    entries = re.split(r"\n\n", PROTO.read_text())
    found = (re.search(r"// ([A-Z_]+)\. .*\n  (ERROR_REASON_[A-Z_]+) = \d+;", entry, re.DOTALL) for entry in entries)
    stated = [match.groups() for match in found if match is not None]
    assert len(stated) == len(ErrorReason.values()) - 1
    for code, reason in stated:
        assert status.STATUS_OF_REASON[ErrorReason.Value(reason)].name == code, reason


@given(
    st.sampled_from(sorted(set(ErrorReason.values()) - {0})),
    texts,
    st.dictionaries(texts, texts, max_size=3),
    st.none() | st.integers(0, 10_000).map(lambda n: n / 1000),
    st.lists(st.builds(FieldViolation, texts, texts), max_size=3),
    st.lists(st.builds(QuotaViolation, texts, texts), max_size=3),
)
def test_an_error_comes_back_as_it_was(
    reason: ErrorReason.ValueType,
    message: str,
    metadata: dict[str, str],
    retry_after_s: float | None,
    fields: list[FieldViolation],
    quotas: list[QuotaViolation],
) -> None:
    sent = FarthingError(
        message, reason=reason, metadata=metadata, retry_after_s=retry_after_s, fields=fields, quotas=quotas
    )
    got = status.from_rpc_error(on_the_wire(sent), "farthing.x.v1.X")
    assert (got.reason, got.message, got.metadata) == (sent.reason, sent.message, sent.metadata)
    assert (got.retry_after_s, got.fields, got.quotas) == (sent.retry_after_s, sent.fields, sent.quotas)


def test_common_errors_come_back_as_their_class() -> None:
    got = status.from_rpc_error(on_the_wire(errors.Overloaded("later", retry_after_s=0.2)), "s")
    assert isinstance(got, errors.Overloaded)
    invalid = status.from_rpc_error(on_the_wire(errors.InvalidArgument.field("prompt", "is empty")), "s")
    assert isinstance(invalid, errors.InvalidArgument)
    assert invalid.fields == (FieldViolation("prompt", "is empty"),)


@pytest.mark.parametrize(
    ("code", "details", "kind"),
    [
        (grpc.StatusCode.UNAVAILABLE, "", errors.Unavailable),
        (grpc.StatusCode.CANCELLED, "CANCELLED", errors.Unavailable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "", errors.DeadlineExceeded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!", errors.Overloaded),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "Received message larger than max (9 vs. 4)", errors.MessageTooLarge),
        (grpc.StatusCode.UNKNOWN, "Traceback: secret", errors.InternalError),
        (grpc.StatusCode.UNIMPLEMENTED, "Method not found!", errors.InternalError),
    ],
)
def test_a_bare_status_becomes_an_error_in_our_words(
    code: grpc.StatusCode, details: str, kind: type[FarthingError]
) -> None:
    got = status.from_rpc_error(bare(code, details), "farthing.cache.v1.CacheService")
    assert type(got) is kind
    assert got.metadata["service"] == "farthing.cache.v1.CacheService"
    assert "secret" not in got.message


def test_details_of_another_domain_are_not_ours() -> None:
    trailing = grpc.aio.Metadata((status.DETAILS_KEY, b"\xff\xff"))
    error = grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, grpc.aio.Metadata(), trailing, "")
    assert isinstance(status.from_rpc_error(error, "s"), errors.Unavailable)


def test_domain_packages_can_use_errors_without_grpc() -> None:
    code = "import sys, farthing_kit.errors, farthing_kit.money, farthing_kit.clock; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
