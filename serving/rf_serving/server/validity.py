"""Validity of an X.509 certificate, read from its DER form: Python's ssl module tells it of other ends only."""

import ssl
from datetime import UTC, datetime
from typing import NamedTuple

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
