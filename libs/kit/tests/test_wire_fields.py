"""Fields are counted on the wire as the parser would build them, and never further than the bound."""

import random
from typing import Any

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.message import DecodeError, Message
from google.protobuf.struct_pb2 import ListValue, Value
from google.protobuf.wrappers_pb2 import StringValue

from farthing.cache.v1.cache_service_pb2 import AnalyzeRequest
from farthing.gateway.v1.gateway_service_pb2 import GenerateRequest, Prompt
from farthing.type.v1.model_pb2 import CHAT_ROLE_USER as USER
from farthing.type.v1.model_pb2 import ChatMessage
from farthing_kit.wire_fields import NotAMessage, has_more_than


def fields_of(message: Message) -> int:
    """What was built, counted field by field."""
    count = 0
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            count += 3 * len(value)
        elif field.message_type is not None:
            parts = value if not isinstance(value, Message) else [value]
            count += sum(1 + fields_of(part) for part in parts)
        elif isinstance(value, str | bytes | int | float):
            count += 1
        else:
            count += len(value)
    return count


def counted(message: Message) -> int:
    """The least bound that the message is within, less the long unknown field that makes it longer than any bound."""
    raw = message.SerializeToString() + b"\xfa\x7f" + bytes([0x80 | 0x00, 0x20]) + b"x" * 4096
    kind: Any = message.DESCRIPTOR
    return next(most for most in range(1, 4096) if not has_more_than(most, raw, kind)) - 1


PROMPT = Prompt(
    messages=[ChatMessage(role=USER, content="a"), ChatMessage(), ChatMessage(role=USER, content="b" * 300)],
    tags={"a": "b", "c": "d"},
    model="small",
    quality_floor=0.5,
)
PROMPT.sampling.stop.extend(["x", "", "y"])


@pytest.mark.parametrize(
    "message",
    [
        Prompt(),
        PROMPT,
        GenerateRequest(prompt=PROMPT),
        Value(list_value=ListValue(values=[Value(number_value=1), Value(list_value=ListValue())])),
        StringValue(value="x" * 1000),
    ],
)
def test_what_the_parser_builds_is_counted(message: Message) -> None:
    assert counted(message) == fields_of(message)


def test_elements_of_packed_lists_count_by_the_bytes_that_they_need() -> None:
    assert counted(AnalyzeRequest(thresholds=[0.5, 0.6, 0.7])) == 1 + 3
    assert counted(AnalyzeRequest(sizes=[1] * 50)) == 1 + 50


@pytest.mark.parametrize("part", [b"\x0a\x00", b"\x12\x00", b"\x3a\x00", b"\x42\x00", b"\x78\x01", b"\xf8\x7f\x01"])
def test_many_small_parts_are_more_than_the_bound_and_no_more_are_looked_at(part: bytes) -> None:
    class Watched(bytes):
        read = 0

        def __getitem__(self, place):  # type: ignore[no-untyped-def]
            Watched.read += 1
            return super().__getitem__(place)

    raw = Watched(part * 500_000)
    assert has_more_than(2048, raw, Prompt.DESCRIPTOR)
    assert Watched.read < 2050 * len(part)


def test_bytes_that_are_no_message_are_seen_or_left_to_the_parser() -> None:
    """Whatever the counter lets through within its bound, the parser builds no more of."""
    chance = random.Random(11)
    valid = PROMPT.SerializeToString() * 3
    refused = 0
    for _ in range(3_000):
        raw = bytearray(valid)
        for _ in range(chance.randrange(1, 4)):
            raw[chance.randrange(len(raw))] = chance.randrange(256)
        try:
            more = has_more_than(64, bytes(raw), Prompt.DESCRIPTOR)
        except NotAMessage:
            refused += 1
            continue
        try:
            built = fields_of(Prompt.FromString(bytes(raw)))
        except DecodeError:
            continue
        assert more or built <= 64
    assert refused > 100


@pytest.mark.parametrize(
    "raw", [b"\x0a\x7f" + b"x" * 90, b"\x0a" + b"\xff" * 99, b"\x0b" * 99, b"\x0a\x30" + b"x" * 48 + b"\x09xxxxx"]
)
def test_what_ends_too_early_is_no_message(raw: bytes) -> None:
    with pytest.raises(NotAMessage):
        has_more_than(50, raw[:99], StringValue.DESCRIPTOR)


def test_messages_within_the_bound_by_their_length_are_not_walked() -> None:
    assert not has_more_than(64, b"\xff" * 64, FileDescriptorProto.DESCRIPTOR)
