"""Ask a server, and judge what it answers."""

import asyncio
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc
import grpc.aio

from rf_fuzz.requests import WireRequest

_AMPLE_SECONDS = 60.0
_ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}
"""What a caller's mistake, or a caller's haste, may be answered with."""
LEAKS = ("Traceback", 'File "', ".py", "site-packages", " object at 0x")


@dataclass(frozen=True, kw_only=True)
class Violation:
    """An answer that must not be."""

    number: int
    path: str
    kind: str
    status: str
    details: str
    body: str
    """Base64."""


@dataclass(kw_only=True)
class Verdict:
    """What became of all requests."""

    requests: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    """By method and status."""
    violations: list[Violation] = field(default_factory=list)

    def __add__(self, other: "Verdict") -> "Verdict":
        return Verdict(
            requests=self.requests + other.requests,
            statuses=self.statuses + other.statuses,
            violations=self.violations + other.violations,
        )

    def as_json(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "requests": self.requests,
            "statuses": dict(sorted(self.statuses.items())),
            "violations": [asdict(violation) for violation in self.violations],
        }


async def ask_all(
    address: str, requests: Iterable[WireRequest], together: int, each: Any = lambda: None, token: str | None = None
) -> Verdict:
    """Send all requests, some at a time, and judge every answer.

    Args:
        address: of the server.
        requests: to send.
        together: how many at a time.
        each: called after every answer.
        token: sent with the requests that bring none.
    """
    verdict = Verdict()
    todo = iter(requests)
    async with grpc.aio.insecure_channel(address) as channel:

        async def work() -> None:
            for request in todo:
                await _ask(channel, request, verdict, token)
                each()

        await asyncio.gather(*(work() for _ in range(together)))
    return verdict


async def _ask(channel: Any, request: WireRequest, verdict: Verdict, token: str | None) -> None:
    metadata = request.metadata
    if token is not None and not any(key == "authorization" for key, _ in metadata):
        metadata = (*metadata, ("authorization", f"Bearer {token}"))
    call = channel.unary_unary(request.path)
    try:
        await call(request.body, timeout=request.timeout or _AMPLE_SECONDS, metadata=metadata)
        status, details = grpc.StatusCode.OK, ""
    except grpc.aio.AioRpcError as error:
        status, details = error.code(), error.details() or ""
    verdict.requests += 1
    verdict.statuses[f"{request.path.rpartition('/')[2]} {status.name}"] += 1
    hasty = status is grpc.StatusCode.DEADLINE_EXCEEDED and request.timeout is not None
    if (status not in _ALLOWED and not hasty) or any(leak in details for leak in LEAKS):
        verdict.violations.append(
            Violation(
                number=request.number,
                path=request.path,
                kind=request.kind,
                status=status.name,
                details=details,
                body=b64encode(request.body).decode(),
            )
        )
