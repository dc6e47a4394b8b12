"""Calls through the front: messages of every size, compression, metadata, streams, and what is no call."""

import gzip
import os
import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from h2.events import ResponseReceived, StreamReset
from hypothesis import given, settings
from hypothesis import strategies as st

from rf_serving.front.messages import framed

from .conftest import ECHO, HOLD, STREAM, Client, request_headers


def send_all(client: Client, stream: int, data: bytes, *, end: bool = True, padding: int | None = None) -> None:
    """Send data as the windows allow."""
    at = 0
    while at < len(data):
        room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size)
        size = min(room - (0 if padding is None else padding + 1), len(data) - at)
        if size <= 0:
            client.step()
            continue
        last = at + size == len(data)
        client.h2.send_data(stream, data[at : at + size], end_stream=end and last, pad_length=padding)
        client.flush()
        at += size


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_530, 65_531, 200_000, 4 * 1024 * 1024])
def test_messages_of_all_sizes_come_back(client: Client, size: int) -> None:
    message = os.urandom(size)
    stream = client.open()
    send_all(client, stream, framed(message))
    assert client.replied(stream) == message


@pytest.mark.parametrize("size", [100, 70_000, 300_000])
@pytest.mark.parametrize("padding", [0, 1, 255])
def test_padding_is_taken_off_and_its_window_given_back(client: Client, size: int, padding: int) -> None:
    message = os.urandom(size)
    stream = client.open()
    send_all(client, stream, framed(message), padding=padding)
    assert client.replied(stream) == message


def test_many_large_messages_at_once_are_let_in_one_after_the_other(client: Client) -> None:
    messages = {client.open(): os.urandom(3_000_000) for _ in range(8)}
    left = {stream: memoryview(framed(message)) for stream, message in messages.items()}
    while left:
        moved = False
        for stream in list(left):
            size = min(client.h2.local_flow_control_window(stream), 16_384, len(left[stream]))
            if size > 0:
                client.h2.send_data(stream, bytes(left[stream][:size]), end_stream=size == len(left[stream]))
                left[stream] = left[stream][size:]
                moved = True
                if not left[stream]:
                    del left[stream]
        client.flush()
        if not moved:
            client.step()
    for stream, message in messages.items():
        assert client.replied(stream) == message


@pytest.mark.parametrize("name", ["gzip", "deflate", "identity"])
def test_compressed_messages_are_read(client: Client, name: str) -> None:
    message = b"again and again " * 10_000
    body = {"gzip": gzip.compress(message, mtime=0), "deflate": zlib.compress(message), "identity": message}[name]
    stream = client.open(ECHO, ("grpc-encoding", name))
    send_all(client, stream, bytes([name != "identity"]) + len(body).to_bytes(4, "big") + body)
    assert client.replied(stream) == message
    assert client.ended(stream)["grpc-accept-encoding"] == "identity, deflate, gzip"


@pytest.mark.parametrize(
    ("encoding", "sent", "status", "said"),
    [
        ("br", b"\x00\0\0\0\0", "12", "is none of identity, deflate, gzip"),
        ("identity", b"\x01\0\0\0\0", "13", "the call does not say how"),
        ("gzip", b"\x07\0\0\0\0", "13", "the call does not say how"),
        ("gzip", b"\x01\0\0\0\x03abc", "13", "the message is no gzip"),
        ("gzip", b"\x01\0\0\0\x14" + gzip.compress(b"x" * 100, mtime=0)[:20], "13", "it ends too early"),
    ],
)
def test_what_cannot_be_decompressed_is_said(front: Any, encoding: str, sent: bytes, status: str, said: str) -> None:
    client = front.client()
    stream = client.open(ECHO, ("grpc-encoding", encoding))
    client.h2.send_data(stream, sent, end_stream=True)
    client.flush()
    answer = client.ended(stream)
    assert (answer["grpc-status"], said in answer["grpc-message"]) == (status, True)


def test_a_small_message_that_becomes_a_large_one_is_refused(start_front: Callable[..., Any]) -> None:
    with start_front(message_bytes=10_000) as running:
        client = running.client()
        for message, taken in ((bytes(10_000), True), (bytes(10_001), False)):
            body = gzip.compress(message, mtime=0)
            stream = client.open(ECHO, ("grpc-encoding", "gzip"))
            send_all(client, stream, b"\x01" + len(body).to_bytes(4, "big") + body)
            answer = client.ended(stream)
            assert (answer["grpc-status"] == "0") is taken
            assert taken or "larger than max" in answer["grpc-message"]


def test_a_large_message_is_refused_before_it_is_read(start_front: Callable[..., Any]) -> None:
    with start_front(message_bytes=100_000) as running:
        client = running.client()
        for path in (ECHO, STREAM):
            stream = client.open(path)
            client.h2.send_data(stream, b"\0" + (100_001).to_bytes(4, "big"))
            client.flush()
            assert "larger than max (100001 vs. 100000)" in client.ended(stream)["grpc-message"]
            client.wait(lambda event: isinstance(event, StreamReset) and event.error_code == 0)  # no need to go on
        assert running.application.faults == [stream]  # or it would go on with what it does for this stream


def test_a_call_may_end_without_a_message(client: Client) -> None:
    stream = client.open(end=True)
    client.flush()
    assert "Lack.ENDED" in client.ended(stream)["grpc-message"]
    stream = client.open()
    client.h2.send_data(stream, b"\0\0\0\0\x05ab", end_stream=True)
    client.flush()
    assert "Lack.ENDED" in client.ended(stream)["grpc-message"]


def test_request_trailers_end_a_call(client: Client) -> None:
    stream = client.open()
    client.h2.send_data(stream, framed(b"m"))
    client.h2.send_headers(stream, [("checksum", "1")], end_stream=True)
    client.flush()
    assert client.replied(stream) == b"m"


def test_metadata_comes_and_goes(front: Any) -> None:
    client = front.client()
    stream = client.call(
        HOLD, b"", ("x-one", "1"), ("some-bin", "AAEC/w"), ("two-bin", "AAE=,Ag=="), ("grpc-timeout", "20S")
    )
    wait_for(lambda: any(call.number == stream for call in front.application.held))
    (call,) = [call for call in front.application.held if call.connection.calls.get(stream) is call]
    assert call.invocation_metadata() == (
        *(("x-one", "1"), ("some-bin", b"\0\1\2\xff")),
        *(("two-bin", b"\0\1"), ("two-bin", b"\2")),
    )
    assert 0 < call.time_remaining() <= 20
    call.set_trailing_metadata([("back", "2"), ("back-bin", b"\xff\0")])
    front.do(lambda: call.finish(5, "nicht da: größer\n%"))
    answer = client.ended(stream)
    assert (answer["back"], answer["back-bin"], answer["grpc-status"]) == ("2", "/wA", "5")
    assert answer["grpc-message"] == "nicht da: gr%C3%B6%C3%9Fer%0A%25"


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_a_reset_tells_the_application_once(front: Any) -> None:
    client = front.client()
    front.application.held.clear()
    front.application.left.clear()
    stream = client.call(HOLD)
    wait_for(lambda: front.application.held)
    client.h2.reset_stream(stream, 8)
    client.flush()
    wait_for(lambda: front.application.left == [stream])
    assert client.replied(client.call(message=b"after")) == b"after"


def test_streams_carry_messages_both_ways_as_they_come(client: Client) -> None:
    stream = client.open(STREAM)
    client.flush()
    first = client.wait(lambda event: isinstance(event, ResponseReceived) and event.headers)
    assert (b"first", b"1") in first or ("first", "1") in first
    got = b""
    for message in (b"a" * 60_000, b"", b"b" * 60_000, b"c" * 1_000_000, b"d"):
        send_all(client, stream, framed(message), end=False)
        got += framed(message)
        while len(client.data.get(stream, b"")) < len(got):
            client.step()
        assert client.data[stream] == got
    client.h2.end_stream(stream)
    client.flush()
    assert client.ended(stream)["grpc-status"] == "0"


@pytest.mark.parametrize(
    ("path", "headers", "answer"),
    [
        ("/test.Echo/Other", {}, {"grpc-status": "12"}),
        ("nonsense", {}, {"grpc-status": "12"}),
        (ECHO, {":method": "GET"}, {":status": "405"}),
        (ECHO, {"content-type": "application/json"}, {":status": "415"}),
        (ECHO, {"content-type": "application/grpcx"}, {":status": "415"}),
        (ECHO, {"content-type": "application/grpc+proto"}, {"grpc-status": "0"}),
    ],
)
def test_what_is_no_call_of_ours_is_answered(
    client: Client, path: str, headers: dict[str, str], answer: dict[str, str]
) -> None:
    stream = client.h2.get_next_available_stream_id()
    client.h2.send_headers(stream, list((dict(request_headers(path)) | headers).items()))
    client.h2.send_data(stream, framed(b""), end_stream=True)
    client.flush()
    assert answer.items() <= client.ended(stream).items()


@pytest.mark.parametrize(
    "wrong",
    [
        [("Upper", "x")],
        [("connection", "keep-alive")],
        [("te", "gzip")],
        [(":path", "/again")],
        [(":status", "200")],
        [("grpc-timeout", "1")],
        [("grpc-timeout", "123456789S")],
        [("content-length", "x")],
        [("text", "a\nb")],
        [("some-bin", "*")],
        [("", "x")],
    ],
)
def test_malformed_headers_end_the_stream_and_nothing_else(client: Client, wrong: list[tuple[str, str]]) -> None:
    client.h2.config.normalize_outbound_headers = False
    stream = client.open(ECHO, *wrong, end=True)
    client.flush()
    assert client.wait(
        lambda event: isinstance(event, StreamReset) and event.stream_id == stream and event.error_code == 1
    )
    assert client.replied(client.call(message=b"fine")) == b"fine"


@pytest.mark.parametrize("length", ["4", "6"])
def test_a_content_length_has_to_be_right(client: Client, length: str) -> None:
    stream = client.call(ECHO, b"", ("content-length", length))
    assert client.wait(lambda event: isinstance(event, StreamReset) and event.stream_id == stream)
    assert client.replied(client.call(ECHO, b"", ("content-length", "5"))) == b""


def test_small_windows_hold_replies_until_they_widen(front: Any) -> None:
    client = front.client()
    client.h2.update_settings({4: 10})  # INITIAL_WINDOW_SIZE
    client.flush()
    message = os.urandom(5_000)
    stream = client.call(message=message)
    assert client.replied(stream) == message
    client.h2.update_settings({4: 1_000_000})
    client.flush()
    message = os.urandom(500_000)
    stream = client.open()
    send_all(client, stream, framed(message))
    assert client.replied(stream) == message


def test_a_table_of_no_size_is_respected(front: Any) -> None:
    """A client that keeps no table has to be told so by the next header block."""
    client = front.client()
    client.h2.update_settings({1: 0})
    client.flush()
    for _ in range(2):
        assert client.replied(client.call(message=b"m")) == b"m"
    assert client.h2.decoder.header_table.maxsize == 0


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_calls_in_any_pieces_come_back(front: Any, data: st.DataObject) -> None:
    """Messages, cut anywhere, padded, of several calls in any order, with frames that mean nothing between them."""
    client = front.client()
    count = data.draw(st.integers(1, 4))
    messages = {client.open(): os.urandom(data.draw(st.integers(0, 3_000))) for _ in range(count)}
    left = {stream: framed(message) for stream, message in messages.items()}
    while left:
        stream = data.draw(st.sampled_from(sorted(left)))
        size = data.draw(st.integers(1, len(left[stream])))
        padding = data.draw(st.none() | st.integers(0, 20))
        end = size == len(left[stream]) and data.draw(st.booleans())
        client.h2.send_data(stream, left[stream][:size], end_stream=end, pad_length=padding)
        left[stream] = left[stream][size:]
        if not left[stream]:
            if not end:
                client.h2.end_stream(stream)
            del left[stream]
        if data.draw(st.booleans()):
            client.h2.prioritize(stream, weight=data.draw(st.integers(1, 256)))
        if data.draw(st.booleans()):
            wire = client.h2.data_to_send()
            cut = data.draw(st.integers(0, len(wire)))
            client.socket.sendall(wire[:cut])
            client.socket.sendall(wire[cut:])
    client.flush()
    for stream, message in messages.items():
        assert client.replied(stream) == message
    assert not [event for event in client.events if isinstance(event, StreamReset)]
    client.close()
