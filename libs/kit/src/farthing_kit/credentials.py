"""TLS credentials from files, for both sides of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import grpc

from farthing_kit.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of one side. With `ca`, the other side must show a certificate of that authority."""

    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None

    @classmethod
    def of(cls, settings: ServiceSettings) -> Tls | None:
        """What the settings say; None for plain text."""
        if settings.tls_cert is None and settings.tls_ca is None:
            return None
        return cls(settings.tls_cert, settings.tls_key, settings.tls_ca)

    def server(self) -> grpc.ServerCredentials:
        """Credentials to listen with."""
        if self.cert is None or self.key is None:
            raise ValueError("a TLS server needs tls_cert and tls_key")
        ca = _read(self.ca)
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())], root_certificates=ca, require_client_auth=ca is not None
        )

    def client(self) -> grpc.ChannelCredentials:
        """Credentials to call with."""
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))


def _read(path: Path | None) -> bytes | None:
    return None if path is None else path.read_bytes()
