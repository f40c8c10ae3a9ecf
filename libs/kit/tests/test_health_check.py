"""A container's health check says what the server says, and fails when there is none."""

import asyncio

import pytest

from farthing_kit import health_check
from farthing_kit.local.process import free_port
from farthing_kit.server import Service
from farthing_kit.testing import echo
from farthing_kit.testing.server import RunningServer, serving


def _service() -> Service:
    return Service(echo.NAME, echo.add_EchoServicer_to_server, echo.EchoServicer())


async def _ask(server: RunningServer, *more: str) -> int:
    return await asyncio.to_thread(health_check.main, [server.target, *more])


async def test_a_serving_server_is_healthy_as_a_whole_and_by_service(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(_service()) as server:
        assert await _ask(server) == 0
        assert await _ask(server, "--service", echo.NAME) == 0
    assert capsys.readouterr().out.split() == ["SERVING", "SERVING"]


async def test_a_required_dependency_that_is_down_makes_it_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(_service()) as server:
        await server.server.health.report("redis", False)
        assert await _ask(server) == 1
        await server.server.health.report("redis", True)
        assert await _ask(server) == 0
    assert capsys.readouterr().out.split() == ["NOT_SERVING", "SERVING"]


async def test_an_unknown_service_is_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    async with serving(_service()) as server:
        assert await _ask(server, "--service", "farthing.test.v1.Nobody") == 1
    assert capsys.readouterr().out.split() == ["NOT_FOUND"]


def test_nobody_there_is_unhealthy(capsys: pytest.CaptureFixture[str]) -> None:
    assert health_check.main([f"127.0.0.1:{free_port()}", "--timeout", "0.5"]) == 1
    assert capsys.readouterr().out.split() == ["UNAVAILABLE"]
