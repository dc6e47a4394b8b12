"""A front with an application of a few lines, and `h2` as the other end."""

import asyncio
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest
import uvloop
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, SettingsAcknowledged, StreamEnded

from rf_serving.front.call import Call, Kind
from rf_serving.front.front import Front
from rf_serving.front.limits import FrontLimits
from rf_serving.front.messages import MessageFaultError, Packed, framed

NewLoop = Callable[[], asyncio.AbstractEventLoop]
ECHO, HOLD, STREAM = "/test.Echo/Echo", "/test.Echo/Hold", "/test.Echo/Stream"


class EchoApplication:
    """Returns what it is sent: at once, when told to, or message by message."""

    def __init__(self) -> None:
        self.held: list[Call] = []
        self.left: list[int] = []
        self.faults: list[int] = []
        """Streams with a message that could not be used."""
        self.answered = 0
        self.relaying: set[asyncio.Task[None]] = set()

    def kind(self, path: str) -> Kind | None:
        return {ECHO: Kind.UNARY, HOLD: Kind.UNARY, STREAM: Kind.RELAYED}.get(path)

    def answer(self, call: Call) -> None:
        self.answered += 1
        message = call.message
        try:
            if isinstance(message, Packed):
                message = call.unpacked(message)
            elif isinstance(message, MessageFaultError):
                raise message
        except MessageFaultError as fault:
            call.finish(fault.status, fault.message)
            return
        if not isinstance(message, bytes):
            call.finish(3, repr(message))
        elif call.head.path == HOLD:
            self.held.append(call)
            call.cancelled = lambda: self.left.append(call.number)
        else:
            call.reply(message)

    def relay(self, call: Call) -> None:
        async def echo() -> None:
            call.begin([("first", "1")])
            try:
                while (message := await call.receive()) is not None:
                    await call.send(message)
                call.finish(0, "")
            except MessageFaultError as fault:
                self.faults.append(call.number)
                call.finish(fault.status, fault.message)

        task = asyncio.get_running_loop().create_task(echo())
        self.relaying.add(task)
        task.add_done_callback(self.relaying.discard)


class RunningFront:
    """A front in a thread of this process."""

    def __init__(self, front: Front, application: EchoApplication, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.front, self.application, self.port, self.loop = front, application, port, loop
        self.refused = 0
        """Connections that were closed because there were too many."""

    def refuse(self) -> None:
        self.refused += 1

    def do(self, work: Callable[[], Any]) -> Any:
        """Do something in the front's event loop."""

        async def doing() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(doing(), self.loop).result(20)

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)

    def client(self) -> "Client":
        return Client(self.port)


class Client:
    """The other end: `h2` on a blocking socket."""

    def __init__(self, port: int, source: str = "127.0.0.1") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20, (source, 0))
        self.h2 = H2Connection(
            H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
        )
        self.events: list[Event] = []
        self.data: dict[int, bytes] = {}
        self.closed = False
        self.h2.initiate_connection()
        self.flush()

    def flush(self) -> None:
        self.socket.sendall(self.h2.data_to_send())

    def raw(self, data: bytes) -> None:
        """Send bytes that `h2` would not."""
        self.flush()
        self.socket.sendall(data)

    def open(self, path: str = ECHO, *more: tuple[str, str], end: bool = False) -> int:
        stream = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream, request_headers(path, *more), end_stream=end)
        return stream

    def call(self, path: str = ECHO, message: bytes = b"", *more: tuple[str, str]) -> int:
        """Send a whole call."""
        stream = self.open(path, *more)
        self.h2.send_data(stream, framed(message), end_stream=True)
        self.flush()
        return stream

    def large_call(self, size: int) -> int:
        """Send a whole call of a few frames."""
        stream, data = self.open(), framed(bytes(size))
        for at in range(0, len(data), 16_384):
            self.h2.send_data(stream, data[at : at + 16_384], end_stream=at + 16_384 >= len(data))
        self.flush()
        return stream

    def step(self) -> list[Event]:
        """Read once, and acknowledge data."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            return []
        new = self.h2.receive_data(data)
        for event in new:
            if isinstance(event, DataReceived):
                self.data[event.stream_id] = self.data.get(event.stream_id, b"") + event.data
                if event.flow_controlled_length:
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        self.events += new
        self.flush()
        return new

    def wait(self, found: Callable[[Event], Any]) -> Any:
        """Read until an event is found."""
        seen = 0
        while True:
            for event in self.events[seen:]:
                if result := found(event):
                    return result
            seen = len(self.events)
            if self.closed:
                raise AssertionError(f"closed; got {self.events}")
            self.step()

    def settle(self) -> None:
        """Wait until both ends know each other's settings: nothing more is sent unasked."""
        self.flush()
        self.wait(lambda event: isinstance(event, SettingsAcknowledged))

    def rest(self) -> bytes:
        """Read until the front closes: `h2` takes nothing after a GOAWAY."""
        got = b""
        while more := self.socket.recv(1 << 16):
            got += more
        return got

    def until_closed(self) -> list[Event]:
        while not self.closed:
            self.step()
        return self.events

    def ended(self, stream: int) -> dict[str, str]:
        """Wait for a reply and return its headers and trailers."""
        self.wait(lambda event: isinstance(event, StreamEnded) and event.stream_id == stream)
        found: dict[str, str] = {}
        for event in self.events:
            if getattr(event, "stream_id", None) == stream and hasattr(event, "headers"):
                found |= dict(event.headers)
        return found

    def replied(self, stream: int) -> bytes:
        """Wait for a good reply and return its message."""
        assert self.ended(stream)["grpc-status"] == "0"
        data = self.data.get(stream, b"")
        assert int.from_bytes(data[1:5], "big") == len(data) - 5
        return data[5:]

    def close(self) -> None:
        self.socket.close()

    __del__ = close


def request_headers(path: str, *more: tuple[str, str]) -> list[tuple[str, str]]:
    return [
        *((":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "test")),
        *(("te", "trailers"), ("content-type", "application/grpc"), *more),
    ]


@contextmanager
def running_front(
    context: ssl.SSLContext | None = None, new_loop: NewLoop = uvloop.new_event_loop, **limits: Any
) -> Iterator[RunningFront]:
    """Run a front; ``limits`` are fields of :class:`FrontLimits`."""
    loop = new_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def start() -> RunningFront:
        application = EchoApplication()
        front = Front(FrontLimits(**limits), context, lambda: running.refuse())
        running = RunningFront(front, application, front.bind("127.0.0.1", 0), loop)
        front.start(application)
        return running

    running = asyncio.run_coroutine_threadsafe(start(), loop).result(20)
    try:
        yield running
    finally:
        running.run(running.front.close()).result(20)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@pytest.fixture(scope="session", params=[uvloop, asyncio], ids=["uvloop", "asyncio"])
def start_front(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """:func:`running_front` on either event loop, for tests that need one of their own."""
    return partial(running_front, new_loop=request.param.new_event_loop)


@pytest.fixture(scope="session")
def front() -> Iterator[RunningFront]:
    """A front with its usual limits."""
    with running_front() as running:
        yield running


@pytest.fixture
def client(front: RunningFront) -> Iterator[Client]:
    """A new connection to it."""
    made = front.client()
    yield made
    made.close()
