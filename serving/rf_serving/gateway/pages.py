"""Pages of the gateway: the OpenAPI document, and a page to try the methods; nothing in them comes from another host."""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import NamedTuple

from rf_serving.gateway.replies import Reply

_SECURITY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
    b"form-action 'none'; frame-ancestors 'none'"
)


class _Source(NamedTuple):
    package: str
    name: str
    content_type: bytes


_PAGES: Mapping[str, _Source] = {
    "/": _Source("rf_serving.gateway", "try.html", b"text/html; charset=utf-8"),
    "/try.js": _Source("rf_serving.gateway", "try.js", b"text/javascript; charset=utf-8"),
    "/try.css": _Source("rf_serving.gateway", "try.css", b"text/css; charset=utf-8"),
    "/openapi.json": _Source("rf_protos", "openapi.json", b"application/json"),
}


def page(path: str) -> Reply | None:
    """Return the page of a path; None: there is none."""
    source = _PAGES.get(path)
    return None if source is None else _read(source)


@cache
def _read(source: _Source) -> Reply:
    body = files(source.package).joinpath(source.name).read_bytes()
    headers = [
        (b"content-type", source.content_type),
        (b"content-length", str(len(body)).encode()),
        (b"cache-control", b"no-cache"),
        (b"content-security-policy", _SECURITY),
        (b"referrer-policy", b"no-referrer"),
        (b"x-content-type-options", b"nosniff"),
    ]
    return Reply(200, headers, body)
