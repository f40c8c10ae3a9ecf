"""Every error of the mesh crosses the wire, and comes back with its reason and as its class (or the kit's over it)."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator

import grpc.aio
import pytest

from farthing.type.v1.error_reason_pb2 import ErrorReason
from farthing_kit import errors, status
from farthing_kit.errors import FarthingError
from farthing_scheduler.domain.job import Reply
from farthing_scheduler.wire import reply_from_bytes, reply_to_bytes

Way = Callable[[FarthingError], FarthingError]
SERVICES = ("gateway", "classifier", "cache", "scheduler", "inference", "accounting")


def classes(kind: type[FarthingError] = FarthingError) -> Iterator[type[FarthingError]]:
    yield kind
    for below in kind.__subclasses__():
        yield from classes(below)


def every_class() -> list[type[FarthingError]]:
    for service in SERVICES:
        package = importlib.import_module(f"farthing_{service}.domain")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            importlib.import_module(module.name)
    return sorted(set(classes()), key=lambda kind: (kind.__module__, kind.__qualname__))


def example(kind: type[FarthingError]) -> FarthingError:
    error = kind.__new__(kind)  # the classes take arguments of their own
    FarthingError.__init__(error, "what to do next", metadata={"a": "b"}, retry_after_s=0.5)
    return error


def kit_class(kind: type[FarthingError]) -> type[FarthingError]:
    return next(above for above in kind.__mro__ if above.__module__ == errors.__name__)


def over_grpc(error: FarthingError) -> FarthingError:
    trailing = grpc.aio.Metadata(*status.trailers(error))
    return status.from_rpc_error(
        grpc.aio.AioRpcError(status.code_of(error), grpc.aio.Metadata(), trailing, error.message), "some.Service"
    )


def over_the_queue(error: FarthingError) -> FarthingError:
    got = reply_from_bytes(reply_to_bytes(Reply(attempt=1, sequence=0, error=error))).error
    assert got is not None
    return got


@pytest.mark.parametrize("way", [over_grpc, over_the_queue])
@pytest.mark.parametrize("kind", every_class(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_an_error_comes_back_as_what_it_was(kind: type[FarthingError], way: Way) -> None:
    sent = example(kind)
    got = way(sent)
    assert isinstance(got, kit_class(kind))
    assert (got.reason, got.message, got.metadata) == (sent.reason, sent.message, sent.metadata)
    assert got.retry_after_s == sent.retry_after_s


def test_no_two_classes_of_the_kit_share_a_reason() -> None:
    own = [kind for kind in every_class() if kind.__module__ == errors.__name__ and kind is not FarthingError]
    assert len({kind.reason for kind in own}) == len(own)


def test_a_reason_belongs_to_one_class_of_the_kit() -> None:
    """A reason that several services use is the same kind of error in each of them."""
    for reason in ErrorReason.values():
        kinds = {kit_class(kind) for kind in every_class() if kind.reason == reason}
        assert len(kinds - {FarthingError}) <= 1, ErrorReason.Name(reason)
