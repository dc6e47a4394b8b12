"""Interceptor of all calls of our services.

Request id, token and role, a limit on the calls in flight, the message, the deadline, log line, metrics, and errors as gRPC
statuses.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from time import perf_counter
from typing import Any

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError

from rf_platform.errors import OverloadedError, RfError, UnavailableError, UsageError
from rf_platform.failures import as_rf_error
from rf_serving.server.admission import Admission
from rf_serving.server.authentication import Authentication
from rf_serving.server.call_context import REQUEST_ID, Call, annotate, begin_call, request_id_of
from rf_serving.server.call_reports import CallReports
from rf_serving.server.error_details import STATUS_DETAILS, status_details
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.quick_calls import AioCall, QuickCall, QuickContext, QuickMethod, QuickReply
from rf_serving.server.rpc import INTERNAL, METHOD_STATUSES, REFLECTION_ROLE, Role, Service, told
from rf_serving.server.tracing import NO_TRACING, Tracing

__all__ = ["REQUEST_ID", "CallInterceptor", "Method", "annotate", "message_missing"]

PUSHBACK = "grpc-retry-pushback-ms"
"""Trailing metadata of a refused call: gRPC clients that retry wait this long."""
_REFLECTION = "/grpc.reflection."
_PUSHBACK_MS = (50, 150)


class DeadlineError(RfError):
    """The time for a call is up."""

    told = True
    grpc_status = "DEADLINE_EXCEEDED"


@dataclass(frozen=True, eq=False, kw_only=True)
class Method:
    """Method of a service, with what is checked before its handler is called."""

    name: str
    role: Role
    statuses: frozenset[str]
    """Statuses it may be answered with."""
    admission: Admission
    refuse: Callable[["Method", Any], Awaitable[bytes]]
    quick: QuickMethod | None
    """Answers messages without a task; None, or where it does not take one: the handler does."""

    @cached_property
    def refusal(self) -> Any:
        """The handler of a call that is not taken in.

        A handler of streams, because one of single messages would receive the request first. What is taken in is counted when
        its message has come: if it never does, gRPC does not tell.
        """

        async def refuse(requests: Any, context: Any) -> bytes:
            return await self.refuse(self, context)

        return grpc.stream_unary_rpc_method_handler(refuse)


class _TimeLimit:
    """The time for one call is up: its task is cancelled; :func:`asyncio.timeout` does the same at three times the cost."""

    def __init__(self, task: "asyncio.Task[Any]") -> None:
        self._task, self._cancelling = task, task.cancelling()
        self._expired = False

    def expire(self) -> None:
        """Cancel the task."""
        self._expired = True
        self._task.cancel()

    def caused(self) -> bool:
        """Take a cancellation back if it is this limit's only."""
        return self._expired and self._task.uncancel() <= self._cancelling


class CallInterceptor(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # generic in the stubs only
    """Wraps the unary calls of our services; health passes through, and so does reflection unless there are tokens.

    Single messages are read here: gRPC would wait for ever for one that never comes, and not answer a stream that ends
    without one.
    """

    def __init__(
        self,
        metrics: ServerMetrics,
        *,
        admission: Admission | None = None,
        writes: Admission | None = None,
        authentication: Authentication | None = None,
        deadline_seconds: float = 10.0,
        tracing: Tracing = NO_TRACING,
    ) -> None:
        """Prepare.

        Args:
            metrics: told about every call.
            admission: limits reading calls; default: 128 at once.
            writes: limits writing calls; default: 32 at once.
            authentication: checks tokens; None: no token is needed.
            deadline_seconds: most time for a call.
            tracing: makes spans.
        """
        self._authentication, self._tracing = authentication, tracing
        self._deadline_seconds = deadline_seconds
        self._admission, self._writes = admission or Admission(128), writes or Admission(32)
        self.methods: dict[str, Method] = {}
        """Methods of the services that were added, by path."""
        self._handlers: dict[str, Any] = {}
        self._log = structlog.get_logger("rf_serving")
        self.reports = CallReports(metrics)
        """Of the calls that are being answered, and have been."""

    def add(self, services: Iterable[Service]) -> None:
        """Register the methods of these services."""
        for service in services:
            for name, role in service.roles.items():
                admission = self._admission if role is Role.READ else self._writes
                self.methods[f"/{service.name}/{name}"] = Method(
                    name=name,
                    role=role,
                    statuses=frozenset(METHOD_STATUSES[service.descriptor.name][name]),
                    admission=admission,
                    refuse=self._refuse,
                    quick=service.quick.get(name),
                )

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        """Wrap the handler of a call."""
        path = handler_call_details.method
        method = self.methods.get(path)
        if method is None:
            if self._authentication is not None and path.startswith(_REFLECTION):
                return self._checked(await continuation(handler_call_details), handler_call_details)
            return self._passed(await continuation(handler_call_details))
        if method.admission.full:
            return method.refusal
        if (wrapped := self._handlers.get(path)) is None:
            wrapped = self._handlers[path] = self._wrapped(await continuation(handler_call_details), method)
        return wrapped

    def _wrapped(self, handler: Any, method: Method) -> Any:
        async def answer(requests: Any, context: Any) -> Any:
            message = await self._received(context)
            if method.quick is not None and isinstance(message, bytes):
                call = AioCall(context)
                if self.take(method, message, call):
                    return await call.replied()
            return handler.response_serializer(await self.answer(handler, method, message, context))

        # Messages are parsed and written here: gRPC would call a malformed one an error of the server's.
        return grpc.stream_unary_rpc_method_handler(answer)

    def _passed(self, handler: Any) -> Any:
        """Return the handler of a service that is not ours, with its message read in time."""
        if handler is None or handler.unary_unary is None:
            return handler

        async def answer(requests: Any, context: Any) -> Any:
            received = await self._received(context)
            if isinstance(received, RfError):
                await context.abort(grpc.StatusCode[received.grpc_status], told(received))
            return await handler.unary_unary(handler.request_deserializer(received), context)

        return grpc.stream_unary_rpc_method_handler(answer, None, handler.response_serializer)

    async def _received(self, context: Any) -> bytes | RfError:
        """Return the message of a call, or why there is none."""
        task = asyncio.current_task()
        assert task is not None
        limit = _TimeLimit(task)
        timer = task.get_loop().call_later(self._deadline_seconds, limit.expire)
        try:
            message = await context.read()
        except asyncio.CancelledError:
            if not limit.caused():
                raise
            return self.message_late()
        finally:
            timer.cancel()
        return message if isinstance(message, bytes) else message_missing()

    def message_late(self) -> RfError:
        """Return the error of a message that did not come in time."""
        return DeadlineError(f"the message did not come within {self._deadline_seconds:g} s")

    def _checked(self, handler: Any, details: Any) -> Any:
        """Return the handler of reflection if the caller may read, and one that refuses otherwise."""
        assert self._authentication is not None
        try:
            self._authentication.check(details.invocation_metadata, REFLECTION_ROLE)
        except RfError as error:
            refusal = error

            async def refuse(requests: Any, context: Any) -> None:
                await context.abort(grpc.StatusCode[refusal.grpc_status], told(refusal))

            return grpc.stream_stream_rpc_method_handler(refuse)
        return handler

    def permits(self, method: Method, context: Any) -> bool:
        """Say whether the caller may call a method."""
        try:
            if self._authentication is not None:
                self._authentication.check(context.invocation_metadata(), method.role)
        except RfError:
            return False
        return True

    async def _refuse(self, method: Method, context: Any) -> bytes:
        error = self.refuse(method, context)
        context.set_code(grpc.StatusCode[error.grpc_status])
        context.set_details(str(error))
        return b""

    def refuse(self, method: Method, context: Any, request_id: str | None = None) -> OverloadedError:
        """Count a call that is not taken in, tell its caller when to come again, and return the error."""
        request_id = request_id or request_id_of(context)
        method.admission.refused()
        self.reports.shed(method.name, method.admission.limit)
        context.set_trailing_metadata(((REQUEST_ID, request_id), (PUSHBACK, str(random.randint(*_PUSHBACK_MS)))))
        return OverloadedError(
            f"the server answers {method.admission.limit} calls at once and has as many; try again later, or another one"
        )

    def take(
        self,
        method: Method,
        message: bytes,
        context: QuickContext,
        *,
        admitted: bool = False,
        ended: Callable[[], None] | None = None,
    ) -> bool:
        """Have a call answered without a task, if it is a quick one; False: nothing was done, and :meth:`answer` is to be asked.

        What is wrong with a call is left to :meth:`answer` too.

        Args:
            method: what is called.
            message: the request.
            context: of the call.
            admitted: whether the method's admission has taken the call in already.
            ended: called when the call has ended, if it was taken.
        """
        if method.quick is None or (not admitted and method.admission.full):
            return False
        quick = QuickCall(method, context, request_id_of(context), Call(), self._finish, self._deadline_seconds)
        quick.ended = ended
        if quick.gone():
            return False
        quick.span = self._tracing.begin(method.name, quick.request_id, context)
        try:
            if self._authentication is not None:
                caller = self._authentication.check(context.invocation_metadata(), method.role)
                quick.call.notes["caller"] = caller
            if not method.quick(message, quick.done, quick.gone, quick.request_id):
                return False
        except (RfError, DecodeError):
            return False
        except Exception:
            self._log.exception("not taken", request_id=quick.request_id, method=method.name)
            return False
        if not admitted:
            method.admission.enter()
        context.set_trailing_metadata(((REQUEST_ID, quick.request_id),))
        self.reports.begin()
        return True

    def _finish(self, quick: QuickCall, result: QuickReply | BaseException) -> None:
        """Reply to a quick call, and report it."""
        method, call, context, status = quick.method, quick.call, quick.context, grpc.StatusCode.OK
        seconds, left = perf_counter() - quick.begin, quick.context.time_remaining()
        if isinstance(result, QuickReply):
            if left is not None and left <= 0:  # the caller has given up by its own clock, which began earlier
                status = grpc.StatusCode.DEADLINE_EXCEEDED
            elif context.gone():
                status = grpc.StatusCode.CANCELLED
            context.reply(result.message)
            call.notes |= result.notes
            call.seconds, call.begins = result.seconds, result.begins
        elif isinstance(result, asyncio.CancelledError):
            late = (left is not None and left <= 0) or seconds >= self._deadline_seconds
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            context.fail(status, status.name)
        else:
            status, text = self._failed(method, quick.request_id, result, call)
            _detail(context, quick.request_id, status, text, result)
            context.fail(status, text)
        method.admission.leave(seconds - sum(call.seconds.values()) if call.seconds else None)
        if quick.ended is not None:
            quick.ended()
        quick.span.end(status, call)
        self.reports.end(method.name, quick.request_id, status.name, seconds, call)

    def _failed(self, method: Method, request_id: str, error: BaseException, call: Call) -> tuple[grpc.StatusCode, str]:
        """Note what went wrong with a call, and return the status and the text that its caller gets."""
        if isinstance(error, RfError):
            call.notes["error"] = str(error)
            if error.__cause__ is not None:
                call.notes["cause"] = repr(error.__cause__)
            if error.grpc_status in method.statuses:
                return grpc.StatusCode[error.grpc_status], told(error)
            return grpc.StatusCode.INTERNAL, INTERNAL
        meant = as_rf_error(error)  # a store or this machine is at fault, or it is a bug
        self._log.error("failed", exc_info=error, request_id=request_id, method=method.name, **call.notes)
        if isinstance(meant, UnavailableError):
            return grpc.StatusCode.UNAVAILABLE, told(meant)
        return grpc.StatusCode.INTERNAL, INTERNAL

    async def answer(
        self, handler: Any, method: Method, request: bytes | RfError, context: Any, *, admitted: bool | None = None
    ) -> Any:
        """Check a call, have it answered, and report it.

        Args:
            handler: gRPC's handler of the method; its deserialiser and its coroutine are called.
            method: what is called.
            request: the message, or why there is none.
            context: of the call: a context of gRPC's, or what has as much of it as is used here.
            admitted: whether the method's admission has taken the call in; None: ask it.

        Returns:
            The reply, not yet serialised.
        """
        request_id = request_id_of(context)
        call = begin_call(request_id)
        context.set_trailing_metadata(((REQUEST_ID, request_id),))
        begin, status = perf_counter(), grpc.StatusCode.OK
        if admitted is None:
            admitted = isinstance(request, bytes) and method.admission.enter()
        if not admitted and isinstance(request, bytes):  # others were faster since it was let through
            refusal = self.refuse(method, context, request_id)
            await context.abort(grpc.StatusCode[refusal.grpc_status], str(refusal))
        self.reports.begin()
        span = self._tracing.begin(method.name, request_id, context)
        try:
            if isinstance(request, RfError):
                raise request
            return await self._in_time(handler, method, request, context)
        except asyncio.CancelledError:
            # The caller went away, or its deadline has passed.
            late = (left := context.time_remaining()) is not None and left <= 0
            status = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
            raise
        except Exception as error:
            status, text = self._failed(method, request_id, error, call)
            _detail(context, request_id, status, text, error)
            await context.abort(status, text)
        finally:
            seconds = perf_counter() - begin
            if admitted:
                method.admission.leave(seconds - sum(call.seconds.values()) if call.seconds else None)
            span.end(status, call)
            self.reports.end(method.name, request_id, status.name, seconds, call)

    async def _in_time(self, handler: Any, method: Method, request: bytes, context: Any) -> Any:
        if self._authentication is not None:
            annotate(caller=self._authentication.check(context.invocation_metadata(), method.role))
        try:
            message = handler.request_deserializer(request)
        except DecodeError as error:
            raise UsageError(f"the request is no message that {method.name} takes: {error}") from error
        remaining = context.time_remaining()
        if remaining is not None and remaining <= 0:
            raise DeadlineError("the caller's deadline passed before the call was begun")
        task = asyncio.current_task()
        assert task is not None
        limit = _TimeLimit(task)
        timer = task.get_loop().call_later(self._deadline_seconds, limit.expire)
        try:
            return await handler.unary_unary(message, context)
        except asyncio.CancelledError as error:
            if not limit.caused():
                raise
            raise DeadlineError(
                f"not answered within {self._deadline_seconds:g} s, the most that a call may take here"
            ) from error
        finally:
            timer.cancel()


def _detail(context: Any, request_id: str, status: grpc.StatusCode, text: str, error: BaseException) -> None:
    """Send details of an error with the trailers, where there are any."""
    if details := status_details(status, text, error):
        context.set_trailing_metadata(((REQUEST_ID, request_id), (STATUS_DETAILS, details)))


def message_missing() -> RfError:
    """Return the error of a call that ended without a message."""
    return UsageError("the call ended without a message; send one")
