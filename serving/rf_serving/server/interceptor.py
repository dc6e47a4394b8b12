"""What happens around every call of our service: request id, log line, metrics, and errors as gRPC statuses."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from time import perf_counter
from typing import Any
from uuid import uuid4

import grpc
import grpc.aio
import structlog

from rf_platform.errors import RfError
from rf_serving.server.metrics import ServerMetrics

REQUEST_ID = "x-request-id"
"""Metadata key: taken from the caller or made here, returned in the trailing metadata and in every log line."""
INTERNAL_MESSAGE = "internal error; the server's log has it under the request id"
_SETTLE_SECONDS = 0.05
_NOT_OUR_FAULT = (grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.CANCELLED)
_USABLE_ID = re.compile(r"[\x21-\x7e]{1,128}")
_notes: ContextVar[dict[str, Any]] = ContextVar("notes")


def note(**values: Any) -> None:
    """Add values to the log line of the call that is being answered."""
    _notes.get({}).update(values)


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Wraps the unary calls of one gRPC package; health and reflection pass through."""

    def __init__(self, metrics: ServerMetrics, package: str = "retrievalformer.v1") -> None:
        self._metrics, self._prefix = metrics, f"/{package}."
        self._log = structlog.get_logger("rf_serving")
        self._idle = asyncio.Event()
        self._idle.set()
        self.active = 0
        """Calls that are being answered."""

    async def wait_until_idle(self) -> None:
        """Return when no call is being answered, nor one that had arrived but not begun."""
        await asyncio.sleep(_SETTLE_SECONDS)
        while self.active:
            await self._idle.wait()
            await asyncio.sleep(_SETTLE_SECONDS)

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wrap the handler of a call."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler.unary_unary or not handler_call_details.method.startswith(self._prefix):
            return handler
        method = handler_call_details.method.rpartition("/")[2]

        async def answer(request: Any, context: Any) -> Any:
            return await self._answer(handler.unary_unary, method, request, context)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )

    async def _answer(self, call: Callable[[Any, Any], Awaitable[Any]], method: str, request: Any, context: Any) -> Any:
        request_id = _request_id(context)
        notes: dict[str, Any] = {}
        _notes.set(notes)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        log = self._log.bind(request_id=request_id, method=method)
        start, status = perf_counter(), grpc.StatusCode.OK
        self._enter()
        try:
            return await call(request, context)
        except RfError as error:
            status = grpc.StatusCode[error.grpc_status]
            notes["error"] = str(error)
            if error.__cause__ is not None:
                notes["cause"] = repr(error.__cause__)
            await context.abort(status, str(error))
        except asyncio.CancelledError:
            status = grpc.StatusCode.CANCELLED  # the caller went away, or its deadline has passed
            raise
        except Exception:
            status = grpc.StatusCode.INTERNAL
            log.exception("failed", **notes)
            await context.abort(status, INTERNAL_MESSAGE)
        finally:
            seconds = perf_counter() - start
            self._metrics.observe_call(method, status.name, seconds, cold=bool(notes.get("cold")))
            report = log.info if status in _NOT_OUR_FAULT else log.warning
            report("answered", status=status.name, ms=round(seconds * 1000, 3), **notes)
            self._leave()

    def _enter(self) -> None:
        self.active += 1
        self._metrics.active.set(self.active)
        self._idle.clear()

    def _leave(self) -> None:
        self.active -= 1
        self._metrics.active.set(self.active)
        if not self.active:
            self._idle.set()


def _request_id(context: Any) -> str:
    given = next((value for key, value in context.invocation_metadata() or () if key == REQUEST_ID), None)
    return given if isinstance(given, str) and _USABLE_ID.fullmatch(given) else uuid4().hex
