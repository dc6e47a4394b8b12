"""Frames that are not allowed: the error that RFC 9113 says, and an end of the stream or of the connection."""

from typing import Any

import pytest
from h2.events import ConnectionTerminated
from hpack import Encoder
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rf_serving.front import frames
from rf_serving.front.faults import ConnectionFault, ErrorCode
from rf_serving.front.frames import frame
from rf_serving.front.header_decoder import HeaderDecoder
from rf_serving.front.messages import framed

from .conftest import ECHO, HOLD, Client, request_headers

BLOCK = Encoder().encode(request_headers(ECHO))
"""Headers of a call, for the first one of a connection."""


def ended_with(client: Client, raw: bytes) -> ErrorCode:
    """Send bytes and return the code of the GOAWAY that follows."""
    client.raw(raw)
    terminated = [event for event in client.until_closed() if isinstance(event, ConnectionTerminated)]
    return ErrorCode(int(terminated[-1].error_code or 0))


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frame(frames.DATA, 0, 0, b"x"), "PROTOCOL_ERROR"),
        (frame(frames.DATA, 0, 1, b"x"), "PROTOCOL_ERROR"),  # idle
        (frame(frames.HEADERS, 5, 0, BLOCK), "PROTOCOL_ERROR"),
        (frame(frames.HEADERS, 5, 2, BLOCK), "PROTOCOL_ERROR"),
        (frame(frames.HEADERS, 4, 3, BLOCK) + frame(frames.HEADERS, 4, 1, BLOCK), "PROTOCOL_ERROR"),  # an older stream
        (frame(frames.HEADERS, 0xD, 1, b"\xff" + BLOCK), "PROTOCOL_ERROR"),  # padding
        (frame(frames.HEADERS, 0x25, 1, b"\0\0"), "FRAME_SIZE_ERROR"),  # no priority
        (frame(frames.HEADERS, 5, 1, b"\xff\xff\xff\xff\xff\xff"), "COMPRESSION_ERROR"),
        (frame(frames.HEADERS, 5, 1, b"\x80"), "COMPRESSION_ERROR"),  # index 0
        (frame(frames.HEADERS, 5, 1, b"\xbe"), "COMPRESSION_ERROR"),  # not in the table
        (frame(frames.HEADERS, 5, 1, b"\x3f\xe2\x1f"), "COMPRESSION_ERROR"),  # a larger table
        (frame(frames.HEADERS, 5, 1, b"\x82\x20"), "COMPRESSION_ERROR"),  # a new size too late
        (frame(frames.HEADERS, 5, 1, b"\x40\x05a"), "COMPRESSION_ERROR"),  # cut short
        (frame(frames.HEADERS, 5, 1, b"\x40\x81\xff\x00"), "COMPRESSION_ERROR"),  # no Huffman code
        (frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.PING, 0, 0, bytes(8)), "PROTOCOL_ERROR"),
        (frame(frames.HEADERS, 0, 1, BLOCK) + frame(frames.CONTINUATION, 4, 3), "PROTOCOL_ERROR"),
        (frame(frames.CONTINUATION, 4, 1, BLOCK), "PROTOCOL_ERROR"),
        (frame(frames.PRIORITY, 0, 0, bytes(5)), "PROTOCOL_ERROR"),
        (frame(frames.RST_STREAM, 0, 0, bytes(4)), "PROTOCOL_ERROR"),
        (frame(frames.RST_STREAM, 0, 1, bytes(4)), "PROTOCOL_ERROR"),  # idle
        (frame(frames.RST_STREAM, 0, 1, bytes(3)), "FRAME_SIZE_ERROR"),
        (frame(frames.SETTINGS, 0, 1), "PROTOCOL_ERROR"),
        (frame(frames.SETTINGS, 0, 0, bytes(5)), "FRAME_SIZE_ERROR"),
        (frame(frames.SETTINGS, 1, 0, bytes(6)), "FRAME_SIZE_ERROR"),
        (frames.settings([(frames.ENABLE_PUSH, 2)]), "PROTOCOL_ERROR"),
        (frames.settings([(frames.INITIAL_WINDOW_SIZE, 1 << 31)]), "FLOW_CONTROL_ERROR"),
        (frames.settings([(frames.MAX_FRAME_SIZE, 1)]), "PROTOCOL_ERROR"),
        (frame(frames.PUSH_PROMISE, 4, 1, bytes(4)), "PROTOCOL_ERROR"),
        (frame(frames.PING, 0, 1, bytes(8)), "PROTOCOL_ERROR"),
        (frame(frames.PING, 0, 0, bytes(7)), "FRAME_SIZE_ERROR"),
        (frame(frames.GOAWAY, 0, 1, bytes(8)), "PROTOCOL_ERROR"),
        (frame(frames.GOAWAY, 0, 0, bytes(7)), "FRAME_SIZE_ERROR"),
        (frame(frames.WINDOW_UPDATE, 0, 0, bytes(4)), "PROTOCOL_ERROR"),
        (frame(frames.WINDOW_UPDATE, 0, 0, bytes(3)), "FRAME_SIZE_ERROR"),
        (frames.window_update(0, frames.LARGEST_WINDOW), "FLOW_CONTROL_ERROR"),
        (frames.window_update(1, 1), "PROTOCOL_ERROR"),  # idle
        ((16_385).to_bytes(3, "big") + bytes(6), "FRAME_SIZE_ERROR"),
    ],
)
def test_a_frame_that_may_not_be_ends_the_connection(client: Client, raw: bytes, code: str) -> None:
    assert ended_with(client, raw) is ErrorCode[code]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (frames.window_update(1, 0), "PROTOCOL_ERROR"),
        (frames.window_update(1, frames.LARGEST_WINDOW), "FLOW_CONTROL_ERROR"),
        (frame(frames.PRIORITY, 0, 1, bytes(4)), "FRAME_SIZE_ERROR"),
        (frame(frames.HEADERS, 4, 1, b"\x82"), "PROTOCOL_ERROR"),  # trailers that do not end it
        (frame(frames.DATA, 1, 1, framed(b"")) + frame(frames.DATA, 0, 1, b"x"), "STREAM_CLOSED"),
        (frame(frames.DATA, 1, 1, framed(b"")) + frame(frames.HEADERS, 5, 1, b"\x82"), "STREAM_CLOSED"),
        (frame(frames.DATA, 0, 1, bytes(16_384)) * 4, "FLOW_CONTROL_ERROR"),
    ],
)
def test_a_frame_that_a_stream_may_not_have_ends_that_stream(front: Any, raw: bytes, code: str) -> None:
    client = front.client()
    client.raw(frame(frames.HEADERS, 4, 1, Encoder().encode(request_headers(HOLD))) + raw)
    resets: list[bytes] = []
    while not resets:
        data = client.socket.recv(65_536)
        assert data
        resets = [data[at + 9 : at + 13] for at in range(len(data) - 12) if data[at : at + 9] == b"\0\0\4\3\0\0\0\0\1"]
    assert int.from_bytes(resets[0], "big") == ErrorCode[code]
    ping = frame(frames.PING, 0, 0, b"and then")
    client.socket.sendall(ping)
    while ping[9:] not in (data := client.socket.recv(65_536)):
        assert data


def test_what_is_not_http2_is_told_so(front: Any) -> None:
    client = front.client()
    client.close()
    import socket

    with socket.create_connection(("127.0.0.1", front.port), timeout=20) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        got = b""
        while more := plain.recv(1000):
            got += more
    assert b"HTTP/2 with prior knowledge" in got


def test_unknown_frames_and_settings_are_passed_over(client: Client) -> None:
    client.raw(frame(0x42, 0xFF, 7, b"what") + frames.settings([(0x99, 5), (frames.MAX_CONCURRENT_STREAMS, 0)]))
    assert client.replied(client.call(message=b"fine")) == b"fine"


def test_a_header_block_may_come_in_parts(front: Any) -> None:
    client = front.client()
    parts = [BLOCK[at : at + 20] for at in range(0, len(BLOCK), 20)]
    wire = frame(frames.HEADERS, 0, 1, parts[0])
    wire += b"".join(frame(frames.CONTINUATION, 0, 1, part) for part in parts[1:-1])
    wire += frame(frames.CONTINUATION, 4, 1, parts[-1]) + frame(frames.DATA, 1, 1, framed(b"in parts"))
    client.raw(wire)
    got = b""
    while b"in parts" not in got:
        more = client.socket.recv(65_536)
        assert more
        got += more


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    raw=st.lists(
        st.tuples(st.integers(0, 11), st.integers(0, 255), st.integers(0, 5), st.binary(max_size=40)), max_size=8
    )
)
def test_any_frames_are_survived(front: Any, raw: list[tuple[int, int, int, bytes]]) -> None:
    """No frames, in whatever order, keep the front from answering others, or from ending the connection in its words."""
    client = front.client()
    client.socket.settimeout(0.05)
    client.raw(b"".join(frame(*each) for each in raw))
    try:
        while client.socket.recv(65_536):
            pass
    except (TimeoutError, ConnectionResetError):
        pass
    client.close()
    other = front.client()
    assert other.replied(other.call(message=b"x")) == b"x"
    other.close()


HEADERS = st.lists(
    st.tuples(
        st.sampled_from(["a", "name", ":path", "x-long-name-of-a-header"]) | st.text("abc-", min_size=1),
        st.text("az09/ "),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(lists=st.lists(st.tuples(HEADERS, st.booleans(), st.none() | st.integers(0, 4096)), max_size=8))
def test_the_decoder_agrees_with_the_encoder_of_hpack(lists: list[Any]) -> None:
    encoder, decoder = Encoder(), HeaderDecoder(1 << 20)
    for headers, huffman, table in lists:
        if table is not None:
            encoder.header_table_size = table
        assert decoder.decode(encoder.encode(headers, huffman=huffman)) == (
            [(name.encode(), value.encode()) for name, value in headers],
            False,
        )


@given(block=st.binary(max_size=200))
def test_the_decoder_takes_any_bytes_or_says_no(block: bytes) -> None:
    decoder = HeaderDecoder(1000)
    try:
        found, too_long = decoder.decode(block)
    except ConnectionFault as fault:
        code = fault.code
    else:
        code = ErrorCode.COMPRESSION_ERROR
        assert sum(len(name) + len(value) + 32 for name, value in found) <= 1000 or too_long
    assert code is ErrorCode.COMPRESSION_ERROR


def test_a_list_that_is_too_long_leaves_the_table_right() -> None:
    encoder, decoder = Encoder(), HeaderDecoder(200)
    found, too_long = decoder.decode(encoder.encode([("kept", "1"), *[("more", "x" * 100)] * 5, ("late", "2")]))
    assert (found[0], too_long) == ((b"kept", b"1"), True)
    assert decoder.decode(encoder.encode([("late", "2")])) == ([(b"late", b"2")], False)
