"""TLS both ways: whoever cannot show a certificate of the mesh is not served."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from google.protobuf.wrappers_pb2 import StringValue

from farthing_kit.credentials import Tls
from farthing_kit.errors import Unavailable
from farthing_kit.settings import ServiceSettings
from farthing_kit.testing.echo import EchoStub, echo_service
from farthing_kit.testing.server import serving
from farthing_kit.testing.settings import settings

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificates with openssl")


class Authority:
    """A certificate authority for one test."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir()
        self._folder = folder
        self.cert, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"),
            *("-subj", f"/CN={name}", "-keyout", self._key, "-out", self.cert),
        )

    def issue(self, name: str) -> Tls:
        """A certificate for loopback, with the authority that it trusts."""
        key, request, cert = (self._folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        extensions = self._folder / "san.cnf"
        extensions.write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
        _openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-subj", f"/CN={name}", "-keyout", key, "-out", request),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.cert, "-CAkey", self._key, "-CAcreateserial", "-days", "1"),
            *("-extfile", extensions, "-out", cert),
        )
        return Tls(cert, key, self.cert)


def _openssl(*args: str | Path) -> None:
    subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "mesh", "mesh")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "foreign", "foreign")


def served_by(tls: Tls) -> ServiceSettings:
    return settings(ServiceSettings, tls_cert=tls.cert, tls_key=tls.key, tls_ca=tls.ca)


async def test_both_sides_with_certificates_of_the_mesh_talk(mesh: Authority) -> None:
    async with serving(echo_service(), settings=served_by(mesh.issue("server"))) as server:
        stub = EchoStub(server.channel(tls=mesh.issue("client")))
        assert (await stub.Say(StringValue(value="x"))).value == "x"
        assert [m.value async for m in stub.Repeat(StringValue(value="ab"))] == ["a", "b"]


async def test_nobody_else_is_served(mesh: Authority, foreign: Authority) -> None:
    strangers = [None, Tls(ca=mesh.cert), foreign.issue("stranger"), Tls(*_swap(foreign.issue("spy")), mesh.cert)]
    async with serving(echo_service(), settings=served_by(mesh.issue("server"))) as server:
        for tls in strangers:
            with pytest.raises(Unavailable):
                await EchoStub(server.channel(tls=tls)).Say(StringValue(value="x"), timeout=5)


def _swap(tls: Tls) -> tuple[Path | None, Path | None]:
    return tls.cert, tls.key


def test_the_settings_decide(mesh: Authority) -> None:
    assert Tls.of(settings(ServiceSettings)) is None
    made = mesh.issue("server")
    assert Tls.of(served_by(made)) == made
    with pytest.raises(ValueError, match="needs tls_cert and tls_key"):
        Tls(ca=mesh.cert).server()
