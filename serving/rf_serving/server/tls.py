"""Certificates of the server, and of its callers where these have to show one."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import structlog

from rf_platform.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class TlsFiles:
    """PEM files; they may be replaced while the server runs."""

    certificate: Path
    """The server's certificate, followed by those between it and the root."""
    key: Path
    """Its private key."""
    client_ca: Path | None = None
    """Callers have to show a certificate signed by one of these (mTLS); None: they need none."""


class ServerCertificates:
    """Gives every new connection the certificates as they are on disk; those that do not fit together are not taken."""

    def __init__(self, files: TlsFiles) -> None:
        """Read the files.

        Raises:
            ConfigError: a file cannot be read, or certificate and key do not belong together.
        """
        self._files, self._seen = files, self._signature(files)
        self._log = structlog.get_logger("rf_serving")
        self._configuration = self._read()

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a secure port is opened with."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration, self._now, require_client_authentication=self._files.client_ca is not None
        )

    def _now(self) -> Any:
        """Called by gRPC before each handshake, from a thread of its own; must not fail."""
        try:
            signature = self._signature(self._files)
            if signature != self._seen:
                self._configuration = self._read()
                self._seen = signature
                self._log.info("certificates read again", certificate=str(self._files.certificate))
        except ConfigError as error:
            self._log.error("certificates not read again", error=str(error))
        return self._configuration

    def _read(self) -> Any:
        files = self._files
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)
            if files.client_ca is not None:
                ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(files.client_ca)
            return grpc.ssl_server_certificate_configuration(
                [(files.key.read_bytes(), files.certificate.read_bytes())],
                root_certificates=files.client_ca.read_bytes() if files.client_ca is not None else None,
            )
        except (OSError, ssl.SSLError) as error:
            named = ", ".join(str(path) for path in (files.certificate, files.key, files.client_ca) if path is not None)
            raise ConfigError(
                f"the certificates {named} cannot be used: {error}; PEM files are needed, and the key has to belong to the "
                f"certificate"
            ) from error

    @staticmethod
    def _signature(files: TlsFiles) -> list[tuple[int, int]]:
        try:
            states = [path.stat() for path in (files.certificate, files.key, files.client_ca) if path is not None]
        except OSError as error:
            raise ConfigError(
                f"{error.filename} cannot be read: {error.strerror}; check --tls-cert and its kin"
            ) from error
        return [(state.st_mtime_ns, state.st_ino) for state in states]
