"""Application of HTTP (ASGI): a POST to a method's path is a call; GET gives health, the OpenAPI document and a page to try it.

The requests and replies are those of unary calls in the Connect protocol, so that its clients can be used: POST, JSON or the
serialised message, an error as JSON with the HTTP status of its code.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Protocol

import structlog
from google.protobuf.descriptor import ServiceDescriptor

from rf_platform.errors import UsageError
from rf_serving.front.application import Application
from rf_serving.front.call import Call, Kind
from rf_serving.front.messages import Lack, MessageFaultError
from rf_serving.front.request_head import RequestHead
from rf_serving.gateway.exchange import Exchange, Outcome
from rf_serving.gateway.methods import JsonMethod, json_methods
from rf_serving.gateway.pages import page
from rf_serving.gateway.replies import HTTP_STATUSES, Headers, Reply, error_body, error_reply, json_reply, name_of

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_JSON, _PROTO = "application/json", "application/proto"
_INLINE_REQUEST_BYTES, _INLINE_REPLY_BYTES = 32 * 1024, 8 * 1024
"""More is turned into JSON, or read from it, in a thread: it takes milliseconds."""
_DISCARDED = 4
"""A body that is too large is read up to so many times the limit: a client that is cut off in the middle misses the answer."""
_INVALID, _EXHAUSTED = 3, 8
_BODY_TOO_LARGE, _BODY_LATE = 413, 408


class GatewayApplication(Application, Protocol):
    """Application that answers the calls."""

    def admits(self, call: Call) -> bool:
        """Say whether there is room for a call and its caller may make it; if not, its message need not be read."""


class Gateway:
    """Hands calls that come as HTTP to an application.

    Args:
        services: their unary methods are offered.
        application: answers them.
        message_bytes: largest body.
        message_seconds: most time for a body to come.
        serving: says whether the server is healthy.
        known_host: says whether a ``Host`` is this server's; None: every one is.
    """

    def __init__(
        self,
        services: Iterable[ServiceDescriptor],
        application: GatewayApplication,
        *,
        message_bytes: int,
        message_seconds: float,
        serving: Callable[[], bool],
        known_host: Callable[[str], bool] | None = None,
    ) -> None:
        self._methods, self._application = json_methods(services), application
        self._most, self._seconds = message_bytes, message_seconds
        self._serving, self._known_host = serving, known_host
        self._thread = ThreadPoolExecutor(1, "rf-json")
        self._log = structlog.get_logger("rf_serving")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        try:
            reply = await self._reply(scope, receive)
        except Exception:
            self._log.exception("failed", path=scope["path"])
            reply = error_reply("INTERNAL", "internal error; the server's log has it")
        if reply is not None:
            await send({"type": "http.response.start", "status": reply.status, "headers": reply.headers})
            await send({"type": "http.response.body", "body": reply.body})

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _reply(self, scope: Scope, receive: Receive) -> Reply | None:
        """Return the reply to a request; None: the client has left."""
        path = scope["path"]
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        length, timeout = headers.get(b"content-length", ""), headers.get(b"connect-timeout-ms", "")
        if (refused := self._no_call(scope["method"], path, headers)) is not None:
            await self._body(receive, length)  # a client that is cut off while it sends misses the answer
            return refused
        kind, method = _content_type(headers), self._methods[path]
        metadata = tuple((name.decode("latin-1"), value) for name, value in headers.items())
        head = RequestHead(path=path, metadata=metadata, timeout=int(timeout) / 1000 if timeout else None)
        exchange = Exchange(scope["client"][0] if scope["client"] else "")
        call = Call(exchange, 0, head, Kind.UNARY, 0)
        body = await self._body(receive, length)
        if body is None:
            return None
        call.message = await self._message(method, body, call) if kind == _JSON else body
        self._application.answer(call)
        outcome = await exchange.outcome(call, receive)
        return None if outcome is None else await self._told(method, call, outcome, kind, body)

    def _no_call(self, verb: str, path: str, headers: Mapping[bytes, str]) -> Reply | None:
        """Return the reply to what is no call; None: it is one."""
        if self._known_host is not None and not self._known_host(host := headers.get(b"host", "")):
            return error_reply("PERMISSION_DENIED", f"this server is not {host[:100]!r}; call it by its own address")
        if path not in self._methods:
            return _get(verb, path, self._serving())
        if verb != "POST":
            said = f"a call is a POST with a JSON object, and this is a {verb}"
            return error_reply("UNIMPLEMENTED", said, [(b"allow", b"POST")], http_status=405)
        if (kind := _content_type(headers)) not in (_JSON, _PROTO):
            said = f"the content-type {kind[:100]!r} is not taken; send {_JSON}"
            return error_reply("INVALID_ARGUMENT", said, [(b"accept-post", _JSON.encode())], http_status=415)
        if (packed := headers.get(b"content-encoding", "identity")) != "identity":
            said = f"the content-encoding {packed[:100]!r} is not taken; send the body as it is"
            return error_reply("INVALID_ARGUMENT", said, [(b"accept-encoding", b"identity")], http_status=415)
        timeout = headers.get(b"connect-timeout-ms", "")
        if timeout and not (timeout.isascii() and timeout.isdecimal() and len(timeout) <= 10):
            return error_reply("INVALID_ARGUMENT", f"connect-timeout-ms: {timeout[:20]!r} is no number of milliseconds")
        return None

    async def _body(self, receive: Receive, length: str) -> bytes | Lack | MessageFaultError | None:
        """Return a body, or why there is none; None: the client has left."""
        parts: list[bytes] = []
        size, more = 0, True
        # What says that it will be sent when asked for is not asked for.
        announced = int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else 0
        try:
            async with asyncio.timeout(self._seconds):
                while more and max(size, announced) <= self._most * _DISCARDED:
                    event = await receive()
                    if event["type"] == "http.disconnect":
                        return None
                    size, more = size + len(event["body"]), event["more_body"]
                    if size > self._most:
                        parts.clear()
                    else:
                        parts.append(event["body"])
        except TimeoutError:
            return Lack.LATE
        if max(size, announced) > self._most:
            said = f"the body has more than {self._most} bytes, the most that a request may have; split it"
            return MessageFaultError(_EXHAUSTED, said)
        return b"".join(parts)

    async def _message(
        self, method: JsonMethod, body: bytes | Lack | MessageFaultError, call: Call
    ) -> bytes | Lack | MessageFaultError:
        """Return the message that a body in JSON stands for, or what is wrong with it."""
        if not isinstance(body, bytes):
            return body
        if not self._application.admits(call):
            return b""  # refused without a look at it
        try:
            if len(body) <= _INLINE_REQUEST_BYTES:
                return method.read(body)
            return await asyncio.get_running_loop().run_in_executor(self._thread, method.read, body)
        except UsageError as error:
            return MessageFaultError(_INVALID, str(error))

    async def _told(
        self, method: JsonMethod, call: Call, outcome: Outcome, kind: str, body: bytes | Lack | MessageFaultError
    ) -> Reply:
        # Binary metadata are for gRPC's clients: what they say of an error is in its body.
        headers: Headers = [(name.encode(), value.encode()) for name, value in call.trailing if isinstance(value, str)]
        if outcome.status:
            name = name_of(outcome.status)
            status = HTTP_STATUSES[name]
            if body is Lack.LATE:
                status = _BODY_LATE
            elif isinstance(body, MessageFaultError):
                status = _BODY_TOO_LARGE
            elif name == "RESOURCE_EXHAUSTED":
                headers.append((b"retry-after", b"1"))
            if not isinstance(body, bytes):
                headers.append((b"connection", b"close"))
            said = error_body(name, outcome.details)
            return json_reply(status, said, headers)
        if kind == _PROTO:
            return json_reply(200, outcome.message, headers, content_type=_PROTO)
        write = partial(method.write, outcome.message)
        if len(outcome.message) <= _INLINE_REPLY_BYTES:
            return json_reply(200, write(), headers)
        return json_reply(200, await asyncio.get_running_loop().run_in_executor(self._thread, write), headers)


def _content_type(headers: Mapping[bytes, str]) -> str:
    return headers.get(b"content-type", "").partition(";")[0].strip().lower()


def _get(verb: str, path: str, serving: bool) -> Reply:
    """Return the reply to what is no call."""
    if verb not in ("GET", "HEAD"):
        said = f"there is no method {path[:200]!r}; / lists them"
        return error_reply("UNIMPLEMENTED", said, http_status=404)
    if path == "/healthz":
        return json_reply(200 if serving else 503, b'{"status":"SERVING"}' if serving else b'{"status":"NOT_SERVING"}')
    return page(path) or error_reply("NOT_FOUND", f"there is no page {path[:200]!r}; / lists the methods")
