"""Whose embedding it is: the classifier is asked once for each of its versions."""

from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from farthing_gateway.adapters.classifier import GrpcClassifier
from farthing_gateway.domain.model import Role
from farthing_gateway.domain.prompt import Message
from farthing_kit.context import Principal, RequestContext, use_context
from farthing_kit.context import Role as Caller
from farthing_kit.errors import Unavailable
from farthing_kit.testing.server import serving
from services.gateway.tests.peers import Script, services

QUESTION = (Message(Role.USER, "What?"),)
ENCODER = b"\xab" * 32


@dataclass
class Peer:
    script: Script
    classifier: GrpcClassifier

    async def encoder(self, *, embedding: bool = True) -> bytes:
        with use_context(RequestContext("q_1", Principal("acme", key_id="k_1"), Caller.TENANT)):
            return (await self.classifier.analyze(QUESTION, embedding=embedding)).encoder_sha256


@pytest.fixture
async def peer() -> AsyncIterator[Peer]:
    script = Script()
    async with serving(*services(script)) as server, server.channel() as channel:
        yield Peer(script, GrpcClassifier(channel, timeout_s=10.0, judge_timeout_s=10.0))


async def test_it_is_asked_once(peer: Peer) -> None:
    assert [await peer.encoder() for _ in range(3)] == [ENCODER] * 3
    assert peer.script.calls.count("GetModelInfo") == 1


async def test_it_is_not_asked_where_no_embedding_is_wanted(peer: Peer) -> None:
    assert await peer.encoder(embedding=False) == b""
    assert "GetModelInfo" not in peer.script.calls


async def test_a_replica_of_another_version_says_nothing_of_this_one(peer: Peer) -> None:
    peer.script.model_version = "m2"
    assert await peer.encoder() == b""
    peer.script.model_version = "m1"
    assert await peer.encoder() == ENCODER


async def test_an_analysis_is_not_lost_with_it(peer: Peer) -> None:
    peer.script.errors["GetModelInfo"] = Unavailable("away")
    assert await peer.encoder() == b""
