"""Certificates of the server, and of its callers where these have to show one."""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import structlog

from rf_platform.errors import ConfigError

PROTOCOLS = ("h2", "http/1.1")
"""Protocols of ports, as TLS names them (ALPN)."""
_UTC_TIME, _GENERALIZED_TIME, _VERSION = 0x17, 0x18, 0xA0


class Validity(NamedTuple):
    """From when to when a certificate is valid."""

    begins: datetime
    ends: datetime

    def holds(self, now: datetime) -> bool:
        """Whether the certificate is valid at a moment."""
        return self.begins <= now <= self.ends


def validity_of(pem: str) -> Validity:
    """Return the validity of the first certificate of a PEM file, the one that a server shows.

    Raises:
        ValueError: there is none, or it is no certificate.
    """
    end = "-----END CERTIFICATE-----"
    start = pem.find("-----BEGIN CERTIFICATE-----")
    der = ssl.PEM_cert_to_DER_cert(pem[start : pem.find(end, start) + len(end)])
    try:
        _, at, _ = _element(der, 0)  # Certificate
        _, at, _ = _element(der, at)  # TBSCertificate
        tag, _, after = _element(der, at)
        fields = 3 if tag == _VERSION else 2  # what is left before the validity: serial number, signature, issuer
        for _ in range(fields):
            _, _, after = _element(der, after)
        _, at, _ = _element(der, after)
        begins, after = _time(der, at)
        ends, _ = _time(der, after)
    except IndexError as error:
        raise ValueError("it is no X.509 certificate") from error
    return Validity(begins, ends)


def _element(der: bytes, at: int) -> tuple[int, int, int]:
    """Return an element's tag, where its content begins, and where the next element does."""
    tag, length, begin = der[at], der[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        length, begin = int.from_bytes(der[begin : begin + count]), begin + count
    return tag, begin, begin + length


def _time(der: bytes, at: int) -> tuple[datetime, int]:
    tag, begin, after = _element(der, at)
    text = der[begin:after].decode("ascii").removesuffix("Z")
    if tag == _UTC_TIME:  # two digits of the year: 1950 to 2049
        text = f"{19 if int(text[:2]) >= 50 else 20}{text}"
    elif tag != _GENERALIZED_TIME:
        raise ValueError("it is no X.509 certificate")
    return datetime.strptime(text, "%Y%m%d%H%M%S").replace(tzinfo=UTC), after


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
    """Gives every new connection the certificates as they are on disk.

    Those that do not fit together are not taken, nor is one that has expired, or is not valid yet, in place of one that is valid.
    """

    def __init__(
        self,
        files: TlsFiles,
        observe: Callable[[datetime], None] = lambda ends: None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read the files.

        Args:
            files: what they are.
            observe: told until when the certificate that is shown is valid.
            now: the time.

        Raises:
            ConfigError: a file cannot be read, or certificate and key do not belong together.
        """
        self._files, self._seen, self._refused = files, self._signature(files), ""
        self._observe, self._clock = observe, now
        self._log = structlog.get_logger("rf_serving")
        self._configuration, self._contexts, self._valid = self._read()
        self._said(self._valid)

    def credentials(self) -> grpc.ServerCredentials:
        """Return what a secure port is opened with."""
        return grpc.dynamic_ssl_server_credentials(
            self._configuration, self._now, require_client_authentication=self._files.client_ca is not None
        )

    def context(self, protocol: str) -> ssl.SSLContext:
        """Return the context of a port of ours; each handshake takes the certificates as they are by then.

        Args:
            protocol: of the port, one of :data:`PROTOCOLS`.
        """
        _, contexts, _ = self._read()
        context = contexts[protocol]

        def renew(connection: Any, name: str | None, first: ssl.SSLContext) -> None:
            self._now()
            connection.context = self._contexts[protocol]

        context.sni_callback = renew  # called for every handshake, also for those that name no server
        return context

    def _now(self) -> Any:
        """Return the certificates for a handshake; gRPC calls it from a thread of its own, and it must not fail."""
        try:
            signature = self._signature(self._files)
            if signature != self._seen:
                self._take(*self._read())
                self._seen, self._refused = signature, ""
        except ConfigError as error:
            if (refused := str(error)) != self._refused:  # once, not for every connection
                self._refused = refused
                self._log.error("certificates not read again", error=refused)
        return self._configuration

    def _take(self, configuration: Any, contexts: Mapping[str, ssl.SSLContext], valid: Validity) -> None:
        now = self._clock()
        if self._valid.holds(now) and not valid.holds(now):
            begins, ends = _dates(valid).values()
            raise ConfigError(
                f"the certificate {self._files.certificate} is valid from {begins} to {ends}, and the one that is shown is valid "
                f"now; it stays until the files have one that is valid, too"
            )
        self._configuration, self._contexts, self._valid = configuration, contexts, valid
        self._log.info("certificates read again", certificate=str(self._files.certificate), **_dates(valid))
        self._said(valid)

    def _said(self, valid: Validity) -> None:
        self._observe(valid.ends)
        if not valid.holds(self._clock()):
            shown = str(self._files.certificate)
            self._log.error("certificate is not valid", certificate=shown, **_dates(valid), remedy="replace the files")

    def _read(self) -> tuple[Any, Mapping[str, ssl.SSLContext], Validity]:
        files = self._files
        try:
            contexts = {protocol: _context(files, protocol) for protocol in PROTOCOLS}
            certificate = files.certificate.read_bytes()
            configuration = grpc.ssl_server_certificate_configuration(
                [(files.key.read_bytes(), certificate)],
                root_certificates=files.client_ca.read_bytes() if files.client_ca is not None else None,
            )
            return configuration, contexts, validity_of(certificate.decode("ascii", "replace"))
        except (OSError, ssl.SSLError, ValueError) as error:
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


def _context(files: TlsFiles, protocol: str) -> ssl.SSLContext:
    """Return a context with these files, as HTTP/2 wants it (RFC 9113, section 9.2).

    No session is resumed: it would go on without the certificates that are asked for now.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_TICKET | ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    context.num_tickets = 0
    context.set_alpn_protocols([protocol])
    context.load_cert_chain(files.certificate, files.key)
    if files.client_ca is not None:
        context.load_verify_locations(files.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def _dates(valid: Validity) -> dict[str, str]:
    return {"begins": f"{valid.begins:%Y-%m-%dT%H:%M:%SZ}", "ends": f"{valid.ends:%Y-%m-%dT%H:%M:%SZ}"}
