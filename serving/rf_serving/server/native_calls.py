"""Calls that come through our own front or the gateway: the same handlers and checks as through gRPC's, or a relay to it.

Connections share the places among the calls in flight fairly.
"""

import asyncio
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import grpc
import structlog

from rf_platform.errors import OverloadedError, RfError, UsageError
from rf_serving.front.call import AbortError, Call, Kind
from rf_serving.front.messages import Lack, MessageFaultError, Packed
from rf_serving.front.relay import Relay
from rf_serving.server.admission import Admission
from rf_serving.server.interceptor import CallInterceptor, Method, message_missing
from rf_serving.server.rpc import INTERNAL, Service

_HUNGRY_SECONDS = 0.1
_COUNT_SECONDS = 0.01


class FairShare:
    """Keeps a connection from taking every place that becomes free while others are refused.

    Any connection may have any number of places while nobody is refused. As long as a connection was refused within the last
    tenth of a second that had less than its share, those that have theirs get no more.
    """

    def __init__(self, admission: Admission, clock: Callable[[], float] = monotonic) -> None:
        self.admission, self._clock = admission, clock
        self._places: dict[Hashable, int] = {}
        self._hungry: dict[Hashable, float] = {}
        self._contenders, self._counted = 1, float("-inf")

    def enter(self, who: Hashable) -> bool:
        """Take a call of a connection in, which then has to :meth:`leave`; False: refuse it."""
        places = self._places
        has = places.get(who, 0)
        if self.admission.full or self._hungry:
            share = self._share()
            if self.admission.full:
                if has < share:
                    if who not in self._hungry:
                        self._counted = float("-inf")
                    self._hungry[who] = self._clock() + _HUNGRY_SECONDS
                return False
            if has >= share and any(other != who for other in self._hungry):
                return False
            self._hungry.pop(who, None)
        if not self.admission.enter():
            return False
        places[who] = has + 1
        return True

    def leave(self, who: Hashable) -> None:
        """Note that a call of a connection has ended; the admission is told by itself."""
        if self._places[who] == 1:
            del self._places[who]
        else:
            self._places[who] -= 1

    def _share(self) -> int:
        now = self._clock()
        # Not for every refusal: the more connections, the longer it takes.
        if now >= self._counted + _COUNT_SECONDS:
            self._hungry = {who: until for who, until in self._hungry.items() if until > now}
            self._contenders, self._counted = len(self._places.keys() | self._hungry.keys()), now
        return max(1, self.admission.limit // max(1, self._contenders))


_TOO_LATE = "Deadline Exceeded"
_EXHAUSTED, _INVALID = grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INVALID_ARGUMENT


class MessageTooLargeError(OverloadedError):
    """A message is larger than the server takes."""


@dataclass(frozen=True, eq=False, kw_only=True)
class _Native:
    method: Method
    handler: Any
    share: FairShare

    def leave(self, connection: Hashable) -> None:
        """Give back the place of a call that was taken in, and not answered."""
        self.method.admission.leave()
        self.share.leave(connection)


class NativeCalls:
    """Answers the unary calls of services in this process, and relays those of others.

    Args:
        interceptor: checks and reports every call; it has the services already.
        services: those that are answered here.
        relayed: full names of those that the relay's server answers.
        relay: to it; None: there is none.
    """

    def __init__(
        self,
        interceptor: CallInterceptor,
        services: Iterable[Service],
        relayed: Iterable[str] = (),
        relay: Relay | None = None,
    ) -> None:
        self._interceptor, self._relay = interceptor, relay
        self._relayed = frozenset(relayed)
        shares = {method.admission: FairShare(method.admission) for method in interceptor.methods.values()}
        self._methods: dict[str, _Native] = {}
        for service in services:
            for path, handler in _handlers(service).items():
                method = interceptor.methods[path]
                self._methods[path] = _Native(method=method, handler=handler, share=shares[method.admission])
        self._loop = asyncio.get_running_loop()
        self._log = structlog.get_logger("rf_serving")

    def kind(self, path: str) -> Kind | None:
        """Return how a method is called."""
        if path in self._methods:
            return Kind.UNARY
        service, _, method = path[1:].rpartition("/")
        return Kind.RELAYED if method and service in self._relayed else None

    def admits(self, call: Call) -> bool:
        """Say whether there is room for a call and its caller may make it; if not, its message need not be read."""
        method = self._methods[call.head.path].method
        return not method.admission.full and self._interceptor.permits(method, call)

    def answer(self, call: Call) -> None:
        """Refuse a call at once if there is too much to do, or begin to answer it."""
        native = self._methods[call.head.path]
        admitted = isinstance(call.message, bytes | Packed)  # there is something to be done
        if admitted and not native.share.enter(call.connection):
            call.fail(_EXHAUSTED, str(self._interceptor.refuse(native.method, call)))
            return
        request = self._request(call)
        if request is None:
            if admitted:
                native.leave(call.connection)
            return
        if isinstance(request, bytes) and self._interceptor.take(
            native.method, request, call, admitted=True, ended=partial(native.share.leave, call.connection)
        ):
            return
        self._loop.create_task(self._answer(native, call, request, admitted))

    def relay(self, call: Call) -> None:
        """Relay a call."""
        assert self._relay is not None
        self._relay.take(call)

    def _request(self, call: Call) -> bytes | RfError | None:
        """Return the message of a call or why there is none; None: the call has ended already."""
        message = call.message
        if isinstance(message, Packed):
            try:
                return call.unpacked(message)
            except MessageFaultError as fault:
                message = fault
        if isinstance(message, bytes):
            return message
        if isinstance(message, MessageFaultError):
            if message.status == _EXHAUSTED.value[0]:
                return MessageTooLargeError(message.message)
            if message.status == _INVALID.value[0]:
                return UsageError(message.message)
            call.finish(message.status, message.message)
            return None
        return self._interceptor.message_late() if message is Lack.LATE else message_missing()

    async def _answer(self, native: _Native, call: Call, request: bytes | RfError, admitted: bool) -> None:
        method = native.method
        if call.closed:  # before its turn came
            if admitted:
                native.leave(call.connection)
            return
        task = asyncio.current_task()
        assert task is not None
        call.cancelled = task.cancel
        left = call.time_remaining()
        timer = None if left is None else self._loop.call_later(left, _expire, call)
        try:
            reply = await self._interceptor.answer(native.handler, method, request, call, admitted=admitted)
            call.reply(native.handler.response_serializer(reply))
        except AbortError as error:
            call.fail(error.code, error.details)
        except asyncio.CancelledError:
            call.fail(grpc.StatusCode.DEADLINE_EXCEEDED, _TOO_LATE)
        except Exception:
            self._log.exception("failed", method=method.name)
            call.fail(grpc.StatusCode.INTERNAL, INTERNAL)
        finally:
            call.cancelled = None
            if timer is not None:
                timer.cancel()
            if admitted:
                native.share.leave(call.connection)


def _expire(call: Call) -> None:
    """Cancel a call at its deadline; its caller is told so."""
    call.deadline = monotonic()  # timers may be a moment early
    if call.cancelled is not None:
        call.cancelled()


class _Collector:
    """Stands for a server where generated code adds the handlers of a service."""

    def __init__(self) -> None:
        self.handlers: dict[str, Any] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        """Pass over what :meth:`add_registered_method_handlers` is given, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Keep the handlers."""
        self.handlers |= {f"/{service}/{name}": handler for name, handler in handlers.items()}


def _handlers(service: Service) -> Mapping[str, Any]:
    """Return gRPC's handlers of a service's methods, by path."""
    collector = _Collector()
    service.add(service.servicer, collector)
    return collector.handlers
