"""Headers of every answer: what a browser may load, and who may see it."""

from collections.abc import Sequence

from starlette.datastructures import MutableHeaders

STATIC_CACHE = "public, max-age=31536000, immutable"
"""Of files whose address has their version."""


class SecurityHeaders:
    """Adds the headers that an answer does not have.

    Args:
        image_origins: origins that images may come from.
        tls: whether the console is reached over TLS.
    """

    def __init__(self, image_origins: Sequence[str], *, tls: bool) -> None:
        images = " ".join(["'self'", *image_origins])
        policy = (
            f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {images}; connect-src 'self'; frame-src 'self'; "
            f"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
        )
        self._headers = {
            "content-security-policy": policy,
            "x-content-type-options": "nosniff",
            "x-frame-options": "DENY",
            "referrer-policy": "same-origin",
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=()",
            "cache-control": "no-store",
        }
        if tls:
            self._headers["strict-transport-security"] = "max-age=31536000"

    def add(self, headers: MutableHeaders) -> None:
        """Add them to the headers of an answer."""
        for name, value in self._headers.items():
            if name not in headers:
                headers[name] = value
