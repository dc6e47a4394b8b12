"""Log lines and metrics of calls; those that end in one turn of the event loop are written together."""

import asyncio
from dataclasses import dataclass
from time import perf_counter

import structlog

from rf_serving.logs import OUTPUT
from rf_serving.server.call_context import Call
from rf_serving.server.metrics import ServerMetrics

_NOT_OUR_FAULT = frozenset(
    {"OK", "INVALID_ARGUMENT", "CANCELLED", "DEADLINE_EXCEEDED", "NOT_FOUND", "UNAUTHENTICATED", "PERMISSION_DENIED"}
)
_SETTLE_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class _Report:
    method: str
    request_id: str
    status: str
    seconds: float
    call: Call


class CallReports:
    """Counts the calls that are being answered, and reports those that have been; used from the event loop only."""

    def __init__(self, metrics: ServerMetrics) -> None:
        self._metrics = metrics
        self._log = structlog.get_logger("rf_serving")
        self._idle = asyncio.Event()
        self._idle.set()
        self._waiting: list[_Report] = []
        self.active = 0
        """Calls that are being answered."""
        self._shed, self._shed_said = 0, 0.0
        metrics.active.set_function(lambda: self.active)

    def begin(self) -> None:
        """Count a call that is begun."""
        self.active += 1
        if self.active == 1:
            self._idle.clear()

    def end(self, method: str, request_id: str, status: str, seconds: float, call: Call) -> None:
        """Report a call that has ended.

        Args:
            method: what was called.
            request_id: of the call.
            status: of the reply.
            seconds: that it took in the server, waiting included.
            call: notes of it.
        """
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._write)
        self._waiting.append(_Report(method, request_id, status, seconds, call))

    def shed(self, method: str, limit: int) -> None:
        """Count a call that is refused, and log their number once a second: a line for each would add to the load."""
        self._metrics.observe_shed(method)
        self._shed += 1
        if (now := perf_counter()) - self._shed_said >= 1:
            self._log.warning("shedding", calls=self._shed, limit=limit, method=method)
            self._shed, self._shed_said = 0, now

    async def wait_until_idle(self) -> None:
        """Return when no call is being answered, nor one that had arrived but not begun."""
        await asyncio.sleep(_SETTLE_SECONDS)
        while self.active:
            await self._idle.wait()
            await asyncio.sleep(_SETTLE_SECONDS)

    def _write(self) -> None:
        reports, self._waiting = self._waiting, []
        self.active -= len(reports)
        if not self.active:
            self._idle.set()
        with OUTPUT.together():
            for each in reports:
                notes = each.call.notes
                self._metrics.observe_call(
                    each.method,
                    each.status,
                    each.seconds,
                    cold=bool(notes.get("cold")),
                    degraded=bool(notes.get("degraded")),
                )
                report = self._log.info if each.status in _NOT_OUR_FAULT else self._log.warning
                report(
                    "answered",
                    request_id=each.request_id,
                    method=each.method,
                    status=each.status,
                    ms=round(each.seconds * 1000, 3),
                    **notes,
                )
