"""Floods and stalls: what costs the other end nothing costs the front little, and has an end."""

import gzip
import socket
import time
import tracemalloc
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import pytest
from h2.events import ConnectionTerminated, StreamReset
from hpack import Encoder

from rf_serving.front import frames
from rf_serving.front.faults import ErrorCode
from rf_serving.front.frames import frame
from rf_serving.front.messages import framed

from .conftest import ECHO, HOLD, STREAM, Client, request_headers

CALM = ErrorCode.ENHANCE_YOUR_CALM


def flooded(client: Client, piece: bytes, most: int = 20_000) -> tuple[ErrorCode, str]:
    """Send a piece again and again until the front ends the connection; return what it says."""
    client.settle()
    with suppress(OSError):
        for _ in range(most // 100):
            client.socket.sendall(piece * 100)
    with suppress(OSError):
        client.until_closed()
    for event in client.events:
        if isinstance(event, ConnectionTerminated):
            return ErrorCode(int(event.error_code or 0)), (event.additional_data or b"").decode()
    raise AssertionError("it took all of it")


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (frame(frames.SETTINGS, 0, 0), "carry nothing"),
        (frames.settings([(frames.INITIAL_WINDOW_SIZE, 65_535)]), "carry nothing"),
        (frame(frames.SETTINGS, 1, 0), "carry nothing"),
        (frame(frames.PING, 0, 0, bytes(8)), "too_many_pings"),
        (frame(frames.PING, 1, 0, bytes(8)), "carry nothing"),
        (frames.window_update(0, 1), "carry nothing"),
        (frame(frames.PRIORITY, 0, 1, bytes(5)), "carry nothing"),
        (frame(frames.GOAWAY, 0, 0, bytes(8)), "carry nothing"),
        (frame(0x77, 0, 0, b""), "carry nothing"),
    ],
)
def test_a_flood_of_frames_is_ended(front: Any, piece: bytes, reason: str) -> None:
    assert flooded(front.client(), piece) == (CALM, f"too many frames that {reason}" if " " in reason else reason)


@pytest.mark.parametrize("piece", [frame(frames.DATA, 0, 1), frame(frames.DATA, 8, 1, b"\0")])
def test_a_flood_of_empty_data_is_ended(front: Any, piece: bytes) -> None:
    client = front.client()
    client.open(HOLD)
    assert flooded(client, piece) == (CALM, "too many frames that carry nothing")


def calls_reset(count: int, path: str = HOLD) -> bytes:
    """Return calls that are opened and reset at once (CVE-2023-44487)."""
    encoder = Encoder()
    wire = []
    for number in range(1, 2 * count, 2):
        wire.append(frame(frames.HEADERS, 4, number, encoder.encode(request_headers(path))))
        wire.append(frame(frames.DATA, 1, number, framed(b"")))
        wire.append(frame(frames.RST_STREAM, 0, number, (8).to_bytes(4, "big")))
    return b"".join(wire)


def test_rapid_resets_are_ended_and_reach_no_handler(start_front: Callable[..., Any]) -> None:
    with start_front() as running:
        client = running.client()
        client.flush()
        try:
            client.socket.sendall(calls_reset(20_000))
            client.until_closed()
        except OSError:
            pass
        assert running.application.answered < 100  # their resets came with a later read
        assert not running.do(lambda: any(connection.calls for connection in running.front.connections))


def test_streams_that_are_reset_count_for_more(start_front: Callable[..., Any]) -> None:
    """Each begins a call to another server."""
    with start_front() as running:
        client, encoder = spoken_with(running, 0)
        rapid = (
            frame(frames.HEADERS, 4, number, encoder.encode(request_headers(STREAM)))
            + frame(frames.RST_STREAM, 0, number, (8).to_bytes(4, "big"))
            for number in range(1, 2_000, 2)
        )
        calls, reason, _ = ended_by(client, rapid)
        assert reason.startswith("too many calls are reset")
        assert 100 <= calls < 300


def test_callers_may_give_up_on_many_calls(start_front: Callable[..., Any]) -> None:
    """Answers make up for resets: a client with short deadlines is no flood."""
    with start_front(resets=100) as running:
        client = running.client()
        for _ in range(300):
            stream = client.call(HOLD)
            client.h2.reset_stream(stream, 8)
            assert client.replied(client.call(message=b"m")) == b"m"


def test_a_header_block_without_end_is_ended(front: Any) -> None:
    for piece in (b"", b"\x00\x01a\x7f\xe1\x3e" + b"x" * 8_000):
        client = front.client()
        client.settle()
        client.raw(frame(frames.HEADERS, 0, 1))
        assert flooded(client, frame(frames.CONTINUATION, 0, 1, piece)) == (CALM, "a header block that is too long")


def test_a_header_block_that_does_not_end_is_ended(start_front: Callable[..., Any]) -> None:
    with start_front(message_seconds=0.2) as running:
        client = running.client()
        client.settle()
        client.raw(frame(frames.HEADERS, 0, 1))
        (terminated,) = [e for e in client.until_closed() if isinstance(e, ConnectionTerminated)]
        assert terminated.error_code == CALM


def bomb(times: int) -> bytes:
    """Return a short block that stands for a long list: one entry of 4 KB, again and again."""
    block = Encoder().encode(request_headers(ECHO))
    entry = b"\x40\x01x\x7f\xc1\x1e" + b"y" * 4_000
    return block + entry + b"\xbe" * times


def test_a_header_bomb_costs_no_memory_and_no_connection(front: Any) -> None:
    tracemalloc.start()
    try:
        client = front.client()
        client.raw(frame(frames.HEADERS, 5, 1, bomb(12_000)))  # 48 MB of headers
        data = b""
        while b"grpc-message" not in data:
            more = client.socket.recv(65_536)
            assert more
            data += more
        assert b"received metadata is larger than max (16384 bytes)" in data
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(("size", "status"), [(10_000, "0"), (17_000, "8"), (60_000, None)])
def test_lists_of_headers_have_a_largest_size(front: Any, size: int, status: str | None) -> None:
    client = front.client()
    stream = client.open(ECHO, ("long", "x" * size))
    client.h2.send_data(stream, framed(b""), end_stream=True)
    client.flush()
    if status is None:
        (terminated,) = [e for e in client.until_closed() if isinstance(e, ConnectionTerminated)]
        assert terminated.error_code == CALM
    else:
        assert client.ended(stream)["grpc-status"] == status
        assert client.replied(client.call(message=b"next")) == b"next"


def test_more_calls_than_may_be_are_refused_and_the_others_go_on(start_front: Callable[..., Any]) -> None:
    with start_front(streams=5) as running:
        client = running.client()
        client.h2.remote_settings.max_concurrent_streams = 100
        client.h2.remote_settings.acknowledge()
        held = [client.call(HOLD) for _ in range(5)]
        late = client.call(ECHO)
        assert client.wait(
            lambda event: isinstance(event, StreamReset) and event.stream_id == late and event.error_code == 7
        )
        running.do(lambda: [call.reply(b"now") for call in running.application.held])
        assert all(client.replied(stream) == b"now" for stream in held)
        assert client.replied(client.call(message=b"m")) == b"m"


def test_streaming_calls_of_a_connection_are_counted(start_front: Callable[..., Any]) -> None:
    with start_front(relays=3) as running:
        client = running.client()
        streams = [client.open(STREAM) for _ in range(4)]
        client.flush()
        assert client.ended(streams[3])["grpc-status"] == "8"
        client.h2.end_stream(streams[0])
        client.flush()
        assert client.ended(streams[0])["grpc-status"] == "0"
        assert client.replied(client.call(STREAM, b"m")) == b"m"


def test_a_reply_that_nobody_takes_is_given_up(start_front: Callable[..., Any]) -> None:
    """A window of nothing: the reply is held for a while, further calls are refused, nothing is kept for ever."""
    with start_front(message_seconds=0.5, held_bytes=100_000) as running:
        client = running.client()
        client.h2.update_settings({4: 0})
        client.settle()
        streams = [client.large_call(60_000) for _ in range(2)]
        client.wait(lambda event: getattr(event, "stream_id", 0) == streams[1])  # the head of its reply
        late = client.call(message=b"m")
        codes = {
            stream: client.wait(
                lambda event, wanted=stream: isinstance(event, StreamReset) and event.stream_id == wanted and event
            ).error_code
            for stream in (late, *streams)
        }
        assert codes == {late: ErrorCode.REFUSED_STREAM, streams[0]: ErrorCode.CANCEL, streams[1]: ErrorCode.CANCEL}
        assert running.do(lambda: [c.sender.held for c in running.front.connections]) == [0]


def test_replies_in_drops_are_ended(start_front: Callable[..., Any]) -> None:
    """A window that widens by one byte at a time makes a frame of each (CVE-2019-9511)."""
    with start_front(idle_frames=500) as running:
        client = running.client()
        client.h2.update_settings({4: 0})
        client.settle()
        stream = client.large_call(60_000)
        client.h2.increment_flow_control_window(20_000, stream)
        client.h2.data_to_send()  # sent a byte at a time instead
        assert flooded(client, frames.window_update(stream, 1)) == (CALM, "too many frames that carry nothing")


def test_a_client_that_reads_nothing_is_left(start_front: Callable[..., Any]) -> None:
    """Its socket takes nothing: the front reads nothing more of it, holds little, and closes."""
    with start_front(message_seconds=0.5, held_bytes=3_000_000) as running:
        client = running.client()
        client.h2.update_settings({4: frames.LARGEST_WINDOW})
        client.h2.increment_flow_control_window(frames.LARGEST_WINDOW - 65_535)
        client.flush()
        call = framed(bytes(60_000))
        client.socket.settimeout(0.5)
        encoder, sent = Encoder(), 0
        try:
            for number in range(1, 4_001, 2):
                wire = frame(frames.HEADERS, 4, number, encoder.encode(request_headers(ECHO)))
                for at in range(0, len(call), 16_384):
                    wire += frame(frames.DATA, at + 16_384 >= len(call), number, call[at : at + 16_384])
                client.socket.sendall(wire)
                sent += len(wire)
        except OSError:
            pass
        assert sent < 40_000_000
        until = time.monotonic() + 20
        while running.do(lambda: len(running.front.connections)):
            assert time.monotonic() < until
            time.sleep(0.02)


def test_messages_that_come_too_slowly_are_given_up(start_front: Callable[..., Any]) -> None:
    with start_front(message_seconds=0.3) as running:
        client = running.client()
        stream = client.open()
        client.h2.send_data(stream, framed(bytes(50))[:20])
        client.flush()
        assert "Lack.LATE" in client.ended(stream)["grpc-message"]
        assert client.replied(client.call(message=b"m")) == b"m"


def test_a_frame_byte_by_byte_is_read(client: Client) -> None:
    stream = client.open()
    client.h2.send_data(stream, framed(b"slow"), end_stream=True)
    for byte in client.h2.data_to_send():
        client.socket.sendall(bytes([byte]))
    assert client.replied(stream) == b"slow"


def test_idle_and_old_connections_are_asked_to_leave(start_front: Callable[..., Any]) -> None:
    for limits in ({"idle_seconds": 0.2}, {"age_seconds": 0.2}):
        with start_front(**limits) as running:
            client = running.client()
            assert client.replied(client.call(message=b"m")) == b"m"
            got = client.rest()
            leaving, final = frames.LARGEST_WINDOW.to_bytes(4, "big"), (1).to_bytes(4, "big")
            # First what may still be on its way is taken, then no more.
            assert 0 <= got.find(leaving + bytes(4)) < got.find(final + bytes(4), 30)


def test_a_silent_connection_is_asked_and_then_closed(start_front: Callable[..., Any]) -> None:
    with start_front(keepalive_seconds=0.2, keepalive_wait_seconds=0.2) as running:
        client = running.client()
        begin = time.monotonic()
        while time.monotonic() < begin + 1:  # `h2` answers pings
            client.socket.settimeout(0.1)
            try:
                client.step()
            except TimeoutError:
                continue
        assert not client.closed
        client.socket.settimeout(20)
        got = b""
        while more := client.socket.recv(1000):  # nobody answers now
            got += more
        assert b"keepalive_timeout" in got


def test_what_is_held_of_calls_is_forgotten_with_them(front: Any) -> None:
    client = front.client()
    for _ in range(50):
        client.call(HOLD, bytes(1000))
    client.open()
    client.flush()
    client.replied(client.call(message=b"m"))
    (connection,) = front.do(lambda: [c for c in front.front.connections if len(c.calls) == 51])
    client.close()
    until = time.monotonic() + 20
    while connection in front.do(lambda: set(front.front.connections)):
        assert time.monotonic() < until
        time.sleep(0.01)
    assert not connection.calls
    assert not connection.lifetime.incomplete


def test_a_drain_takes_the_calls_that_are_on_their_way_and_no_later_ones(start_front: Callable[..., Any]) -> None:
    with start_front() as running:
        client = running.client()
        first = client.call(HOLD)
        client.settle()
        running.do(running.front.retire)
        second = client.call(HOLD)  # sent before the client has read of it
        until = time.monotonic() + 20
        while len(running.application.held) < 2:
            assert time.monotonic() < until
            time.sleep(0.005)
        waiting = running.run(running.front.wait_until_answered(lambda call: True))
        running.do(lambda: [call.reply(b"in time") for call in running.application.held])
        waiting.result(20)
        got = client.rest()
        assert got.count(framed(b"in time")) == 2
        assert (first, second) == (1, 3)
        assert (3).to_bytes(4, "big") + bytes(4) in got  # the last call that was taken
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", running.port), timeout=20).close()


def test_a_drain_never_takes_back_which_call_was_the_last(start_front: Callable[..., Any]) -> None:
    """RFC 9113, section 6.8: a later GOAWAY with a higher number would say that a call is taken which is not."""
    with start_front() as running:
        client, encoder = spoken_with(running, 1)
        while not running.application.held:
            time.sleep(0.005)
        (connection,) = running.front.connections
        running.do(running.front.retire)
        running.do(connection.lifetime.finalise)
        client.raw(frame(frames.HEADERS, 4, 3, encoder.encode(request_headers(HOLD))))
        client.raw(frame(frames.DATA, 1, 3, framed(b"")))
        while connection.last < 3:
            time.sleep(0.005)
        running.do(lambda: running.application.held[0].reply(b"answered"))
        got = client.rest()
        goaway = b"\0\0\x08\x07\0" + bytes(4)
        assert framed(b"answered") in got
        assert got.count(goaway + (1).to_bytes(4, "big") + bytes(4)) == 2
        assert goaway + (3).to_bytes(4, "big") not in got


def spoken_with(running: Any, calls: int, path: str = HOLD) -> tuple[Client, Encoder]:
    """Connect and hold calls open whose messages have come, without `h2`, which would stop at what follows."""
    client, encoder = running.client(), Encoder()
    client.settle()
    for number in range(1, 2 * calls, 2):
        client.raw(frame(frames.HEADERS, 4, number, encoder.encode(request_headers(path))))
        client.raw(frame(frames.DATA, 1, number, framed(b"")))
    return client, encoder


def ended_by(client: Client, pieces: Iterable[bytes]) -> tuple[int, str, bytes]:
    """Send pieces until the front ends the connection; return how many calls it took, its reason, and all it said."""
    got = b""
    client.socket.settimeout(0.001)
    with suppress(OSError):
        for piece in pieces:
            client.socket.sendall(piece)
            with suppress(TimeoutError):
                got += client.socket.recv(1 << 16)
            if b"too many" in got:
                break
    client.socket.settimeout(20)
    with suppress(OSError):
        got += client.rest()
    at = got.find(b"too many ")
    assert at > 0, "it took all of it"
    assert int.from_bytes(got[at - 4 : at], "big") == CALM
    return (int.from_bytes(got[at - 8 : at - 4], "big") + 1) // 2, got[at:].decode("ascii", "replace"), got


def test_calls_that_the_front_has_to_reset_are_resets(start_front: Callable[..., Any]) -> None:
    """A client makes the server reset its calls while handlers go on (CVE-2025-8671): it runs out of them as with its own."""
    with start_front(resets=50) as running:
        client, encoder = spoken_with(running, 0)
        wrong = [
            frame(frames.HEADERS, 4, number, encoder.encode(request_headers(HOLD)))
            + frame(frames.DATA, 1, number, framed(b""))
            + frames.window_update(number, 0)
            for number in range(1, 4_000, 2)
        ]
        calls, reason, _ = ended_by(client, wrong)
        assert reason.startswith("too many calls are reset")
        assert 50 < calls < 1_000
        assert not running.do(lambda: running.front.callers.calls)


def test_a_change_of_all_windows_costs_as_much_as_there_are_calls(start_front: Callable[..., Any]) -> None:
    """Each change goes through every call, and may make a frame of each."""
    with start_front(idle_frames=1_000) as running:
        client, _ = spoken_with(running, 400)
        changes = (frames.settings([(frames.INITIAL_WINDOW_SIZE, 60_000 + n % 2)]) for n in range(2_000))
        _, reason, got = ended_by(client, changes)
        assert reason.startswith("too many frames")
        assert got.count(frame(frames.SETTINGS, 1, 0)) < 60  # 4,000 and more without calls


def test_of_many_windows_in_one_frame_the_last_one_counts(front: Any) -> None:
    client = front.client()
    client.settle()
    many = [(frames.INITIAL_WINDOW_SIZE, n % 2) for n in range(2_500)]
    client.raw(frames.settings([*many, (frames.INITIAL_WINDOW_SIZE, 70_000)]))
    assert len(client.replied(client.large_call(60_000))) == 60_000


def test_replies_that_are_taken_too_slowly_are_given_up(start_front: Callable[..., Any]) -> None:
    """One byte now and then is no progress: a reply would be held for ever."""
    with start_front(message_seconds=0.5, least_bytes_a_second=1000) as running:
        client = running.client()
        client.h2.update_settings({4: 0})
        client.settle()
        stream = client.large_call(60_000)
        begin = time.monotonic()
        client.socket.settimeout(0.05)
        while not any(isinstance(event, StreamReset) for event in client.events):
            client.h2.increment_flow_control_window(1, stream)
            client.flush()
            with suppress(TimeoutError):
                client.step()
            assert time.monotonic() < begin + 10
            time.sleep(0.05)
        client.socket.settimeout(20)
        assert running.do(lambda: running.front.callers.bytes) == 0


@pytest.mark.parametrize("piece", [frame(frames.DATA, 0, 1, b"x"), frame(frames.DATA, 8, 1, b"\x05" + b"x" * 100)])
def test_data_in_drops_are_ended(front: Any, piece: bytes) -> None:
    client = front.client()
    client.open(HOLD)
    assert flooded(client, piece) == (CALM, "too many frames that carry nothing")


def test_trailers_of_calls_that_have_ended_are_ended(front: Any) -> None:
    client = front.client()
    client.settle()
    client.raw(frame(frames.HEADERS, 4, 1, Encoder().encode(request_headers("/no/Method"))))
    _, reason, _ = ended_by(client, [frame(frames.HEADERS, 4, 1, b"\x82" * 1_000)] * 4_000)
    assert reason.startswith("too many frames")


def test_header_blocks_in_crumbs_are_ended(front: Any) -> None:
    """Each block ends, and none is too long; a call is worth some frames, and not as many."""
    client, encoder = front.client(), Encoder()
    client.settle()
    crumbs = (
        frame(frames.HEADERS, 1, number, encoder.encode(request_headers("/no/Method")))
        + frame(frames.CONTINUATION, 0, number) * 14
        + frame(frames.CONTINUATION, 4, number)
        for number in range(1, 4_000, 2)
    )
    calls, reason, _ = ended_by(client, crumbs)
    assert reason.startswith("too many frames")
    assert 200 < calls < 1_500


def test_bombs_of_headers_again_and_again_are_ended(front: Any) -> None:
    client, encoder = front.client(), Encoder()
    client.settle()
    entry, head = b"\x40\x01x\x7f\xc1\x1e" + b"y" * 4_000, encoder.encode(request_headers(ECHO))
    blocks = (
        frame(frames.HEADERS, 5, n, (head + entry if n == 1 else b"") + b"\xbe" * 4_000) for n in range(1, 2_000, 2)
    )
    calls, reason, _ = ended_by(client, blocks)
    assert reason.startswith("too many frames")
    assert 90 < calls < 400


def test_bombs_of_messages_are_ended_and_honest_ones_are_not(front: Any) -> None:
    """Four MiB of nothing are four KB in gzip, and some milliseconds of work."""
    body = gzip.compress(bytes(4 * 1024 * 1024))
    message = b"\x01" + len(body).to_bytes(4, "big") + body
    client, encoder = front.client(), Encoder()
    client.settle()
    bombs = (
        frame(frames.HEADERS, 4, n, encoder.encode(request_headers(HOLD, ("grpc-encoding", "gzip"))))
        + frame(frames.DATA, 1, n, message)
        for n in range(1, 2_000, 2)
    )
    began = time.monotonic()
    calls, reason, _ = ended_by(client, bombs)
    assert reason.startswith("too many frames")
    assert 30 < calls < 60 + 4 * (time.monotonic() - began)  # three a second are forgiven


def test_many_clients_that_open_and_leave_cost_nothing_in_the_end(start_front: Callable[..., Any]) -> None:
    with start_front(connections=50) as running:
        steady = running.client()
        assert steady.replied(steady.call(message=b"m")) == b"m"
        begin = time.monotonic()
        for turn in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", running.port), timeout=20) as passing:
                if turn % 3:
                    passing.sendall(frames.PREFACE[: turn % 24] if turn % 2 else frames.PREFACE + frames.settings([]))
        assert steady.replied(steady.call(message=b"m")) == b"m"
        assert time.monotonic() - begin < 60
        until = time.monotonic() + 20
        while running.front.callers.connections > 1:
            assert time.monotonic() < until
            time.sleep(0.01)
        assert running.do(lambda: len(running.front.connections)) == 1
