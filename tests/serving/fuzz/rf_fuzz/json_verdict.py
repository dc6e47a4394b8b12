"""Ask a server over HTTP, and judge what it answers."""

import asyncio
import json
from base64 import b64encode
from collections.abc import Iterable
from typing import Any

from rf_fuzz.json_requests import JsonRequest
from rf_fuzz.verdict import LEAKS, Verdict, Violation

_AMPLE_SECONDS = 60.0
_ALLOWED = frozenset({200, 400, 401, 403, 404, 405, 408, 413, 415, 429, 431})
"""What a caller's mistake, or a caller's haste, may be answered with."""
_LATE = 504
_KEYS = {"code", "message", "field"}


async def ask_all_json(
    address: tuple[str, int], requests: Iterable[JsonRequest], together: int, each: Any = lambda: None
) -> Verdict:
    """Send all requests, some at a time, each by a connection of its own, and judge every answer.

    Args:
        address: of the server.
        requests: to send.
        together: how many at a time.
        each: called after every answer.
    """
    verdict = Verdict()
    todo = iter(requests)

    async def work() -> None:
        for request in todo:
            try:
                status, body = await asyncio.wait_for(_ask(address, request), _AMPLE_SECONDS)
            except TimeoutError:
                status, body = 0, b""
            _judge(verdict, request, status, body)
            each()

    await asyncio.gather(*(work() for _ in range(together)))
    return verdict


async def _ask(address: tuple[str, int], request: JsonRequest) -> tuple[int, bytes]:
    """Return status and body of an answer; 0: there is none."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        writer.write(request.wire)
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        while head.startswith(b"HTTP/1.1 100"):
            head, _, body = body.partition(b"\r\n\r\n")
        return int(head.split(b" ", 2)[1]) if head else 0, body
    finally:
        writer.close()


def _judge(verdict: Verdict, request: JsonRequest, status: int, body: bytes) -> None:
    verdict.requests += 1
    verdict.statuses[f"{request.path.rpartition('/')[2][:20] or '/'} {status}"] += 1
    late = status == _LATE and ("connect-timeout-ms", "1") in request.headers
    text = body.decode("utf-8", "replace")
    if (status in _ALLOWED or late) and not any(leak in text for leak in LEAKS) and _is_told(request, status, body):
        return
    verdict.violations.append(
        Violation(
            number=request.number,
            path=request.path,
            kind=request.kind,
            status=str(status),
            details=text[:500],
            body=b64encode(request.wire).decode(),
        )
    )


def _is_told(request: JsonRequest, status: int, body: bytes) -> bool:
    """Say whether an error has the form that errors have."""
    if status == 200 or request.verb == "HEAD":
        return True
    try:
        return set(json.loads(body)) == _KEYS
    except ValueError:
        return False
