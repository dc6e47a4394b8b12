"""Limits of a front as a whole: connections, calls and bytes, shared between the addresses that callers have."""

import os
import shutil
import socket
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from h2.events import ConnectionTerminated, StreamReset

from rf_serving.front.callers import address_of
from rf_serving.front.frames import PREFACE, settings
from rf_serving.front.messages import framed
from rf_serving.server.tls import ServerCertificates, TlsFiles

from .conftest import ECHO, HOLD, STREAM, Client
from .test_tls import connect
from .test_tls import files as files

ONE, OTHER = "127.0.0.1", "127.0.0.2"


def client_of(running: Any, address: str) -> Client:
    """Connect from an address of this machine, and be answered once."""
    client = Client(running.port, source=address)
    assert client.replied(client.call(message=b"m")) == b"m"
    return client


def turned_away(running: Any, address: str) -> bool:
    """Whether a new connection from an address is closed before anything is said."""
    try:
        with socket.create_connection(("127.0.0.1", running.port), 20, (address, 0)) as tried:
            return tried.recv(1) == b""
    except ConnectionResetError:
        return True


def wait_for(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.005)


def test_more_connections_than_may_be_are_closed_and_the_others_go_on(start_front: Callable[..., Any]) -> None:
    with start_front(connections=3) as running:
        clients = [client_of(running, ONE) for _ in range(3)]
        assert all(turned_away(running, ONE) for _ in range(200))
        assert running.refused == 200
        assert all(client.replied(client.call(message=b"m")) == b"m" for client in clients)
        clients[0].close()
        wait_for(lambda: running.front.callers.connections == 2)
        client_of(running, ONE)


def test_an_address_with_many_connections_makes_room_for_others_up_to_their_share(
    start_front: Callable[..., Any],
) -> None:
    with start_front(connections=6) as running:
        many = [client_of(running, ONE) for _ in range(6)]
        few = [client_of(running, OTHER)]
        left = many[0].until_closed()  # of those without a call the oldest
        (told,) = [event for event in left if isinstance(event, ConnectionTerminated)]
        assert told.additional_data == b"too many connections"
        few += [client_of(running, OTHER) for _ in range(2)]
        assert [client.closed or bool(client.until_closed()) for client in many[1:3]] == [True, True]
        assert turned_away(running, OTHER)  # three each
        assert all(client.replied(client.call(message=b"m")) == b"m" for client in (*many[3:], *few))
        client_of(running, "127.0.0.3").close()
        wait_for(lambda: running.front.callers.connections == 5)
        with socket.create_connection(("127.0.0.1", running.port), 20, (OTHER, 0)) as silent:
            assert silent.recv(9)[3] == 4  # SETTINGS
            few.append(client_of(running, "127.0.0.3"))
            assert silent.recv(1000).find(b"too many connections") > 0  # it had said nothing
        assert running.front.callers.connections == 6


def test_a_connection_with_a_call_in_flight_gives_way_to_nobody(start_front: Callable[..., Any]) -> None:
    with start_front(connections=3) as running:
        many = [client_of(running, ONE) for _ in range(3)]
        held = [client.call(HOLD) for client in many]
        wait_for(lambda: len(running.application.held) == 3)
        assert turned_away(running, OTHER)
        running.do(lambda: [call.reply(b"in time") for call in running.application.held])
        assert [client.replied(call) for client, call in zip(many, held, strict=True)] == [b"in time"] * 3
        streams = [client.open(STREAM) for client in many]
        for client in many:
            client.flush()
        wait_for(lambda: running.front.callers.relays == len(streams))
        client_of(running, OTHER)  # else a stream that goes on for ever would hold a place for ever


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_half_a_handshake_holds_no_place_against_others(start_front: Any, files: TlsFiles) -> None:
    with start_front(context=ServerCertificates(files).context("h2"), connections=20) as running:
        descriptors = len(os.listdir("/proc/self/fd"))
        silent = [socket.create_connection(("127.0.0.1", running.port), 20, (OTHER, 0)) for _ in range(20)]
        for each in silent[::2]:
            each.sendall(b"\x16\x03\x01\x02\x00")  # the beginning of a ClientHello
        wait_for(lambda: running.front.callers.connections == 20)
        assert turned_away(running, OTHER)
        for _ in range(5):
            with connect(running.port, files, ["h2"]) as good:
                assert good.recv(9)[3] == 4
        for each in silent:
            each.close()
        wait_for(lambda: running.front.callers.connections == 0)
        wait_for(lambda: len(os.listdir("/proc/self/fd")) <= descriptors + 2)  # of the loop itself


def test_beyond_the_calls_of_all_connections_each_has_its_share(start_front: Callable[..., Any]) -> None:
    with start_front(all_calls=10) as running:
        greedy, modest = running.client(), running.client()
        for client in (greedy, modest):
            client.settle()
        for _ in range(10):
            greedy.call(HOLD)
        wait_for(lambda: len(running.application.held) == 10)
        refused = greedy.call(ECHO)
        assert greedy.wait(lambda e: isinstance(e, StreamReset) and (e.stream_id, e.error_code) == (refused, 7))
        held = [modest.call(HOLD) for _ in range(5)]
        refused = modest.call(ECHO)
        assert modest.wait(lambda e: isinstance(e, StreamReset) and (e.stream_id, e.error_code) == (refused, 7))
        running.do(lambda: [call.reply(b"now") for call in list(running.application.held)])
        assert [modest.replied(call) for call in held] == [b"now"] * 5
        assert greedy.replied(greedy.call(message=b"m")) == b"m"
        assert running.front.callers.calls == 0


def test_beyond_the_streams_of_all_connections_each_has_its_share(start_front: Callable[..., Any]) -> None:
    with start_front(all_relays=4) as running:
        greedy, modest = running.client(), running.client()
        modest.settle()
        streams = [greedy.open(STREAM) for _ in range(5)]
        greedy.flush()
        assert greedy.ended(streams[4])["grpc-status"] == "8"
        taken = [modest.open(STREAM) for _ in range(3)]
        modest.flush()
        assert "of all clients" in modest.ended(taken[2])["grpc-message"]
        assert running.front.callers.relays == 6
        greedy.close()
        wait_for(lambda: running.front.callers.relays == 2)


def test_of_too_many_bytes_the_heaviest_address_gives_back(start_front: Callable[..., Any]) -> None:
    with start_front(all_bytes=1_000_000) as running:
        modest = Client(running.port, source=OTHER)
        modest.settle()
        begun = modest.open()
        modest.h2.send_data(begun, framed(bytes(50_000))[:15_000])
        modest.flush()
        heavy = [Client(running.port, source=ONE) for _ in range(4)]
        for client in heavy:
            client.settle()
            for _ in range(8):
                stream = client.open()
                for _ in range(3):
                    client.h2.send_data(stream, framed(bytes(60_000))[:15_000])
            client.flush()
        wait_for(lambda: running.front.callers.connections < 5)
        wait_for(lambda: 15_000 <= running.front.callers.bytes <= 1_000_000)
        for _ in range(2):
            modest.h2.send_data(begun, bytes(15_000))
        modest.h2.send_data(begun, bytes(50_005 - 45_000), end_stream=True)
        modest.flush()
        assert len(modest.replied(begun)) == 50_000
        for client in heavy:
            client.close()
        wait_for(lambda: running.front.callers.connections == 1)
        assert running.front.callers.bytes == 0


def test_what_is_written_is_sent_at_once(start_front: Callable[..., Any]) -> None:
    with start_front() as running:
        client = client_of(running, ONE)
        (connection,) = running.do(lambda: list(running.front.connections))
        accepted = connection.transport.get_extra_info("socket")
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        client.close()


def test_networks_of_ipv6_are_one_address() -> None:
    assert address_of(("192.0.2.7", 1)) == "192.0.2.7"  # type: ignore[arg-type]
    assert address_of(("::ffff:192.0.2.7", 1)) == "::ffff:192.0.2.7"  # type: ignore[arg-type]
    assert address_of(("2001:db8::1", 1)) == address_of(("2001:db8::2:3:4:5", 1))  # type: ignore[arg-type]
    assert address_of(("2001:db8::1", 1)) != address_of(("2001:db8:0:1::1", 1))  # type: ignore[arg-type]
    assert address_of(("fe80::1%lo", 1))  # type: ignore[arg-type]


def test_an_idle_connection_costs_little_memory(start_front: Callable[..., Any]) -> None:
    """Ten thousand of them fit into a few hundred MB; the limit is on them, too."""
    with start_front() as running:
        clients = [client_of(running, ONE)]  # what is made once
        tracemalloc.start()
        try:
            sockets = [socket.create_connection(("127.0.0.1", running.port), timeout=20) for _ in range(200)]
            for each in sockets:
                each.sendall(PREFACE + settings([]))
            wait_for(lambda: sum(c.spoken for c in list(running.front.connections)) == 201)
            assert tracemalloc.get_traced_memory()[0] < 200 * 20_000
        finally:
            tracemalloc.stop()
        for each in sockets:
            each.close()
        clients[0].close()


_FEW_FILES = """
import asyncio, resource, socket
from rf_serving.front.front import Front
from rf_serving.front.limits import FrontLimits

async def run():
    resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
    front = Front(FrontLimits())
    port = front.bind("127.0.0.1", 0)
    front.start(None)
    clients = [socket.socket() for _ in range(30)]
    for client in clients:
        client.setblocking(False)
        await asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", port))
    await asyncio.sleep(0.5)
    taken = len(front.connections)
    for client in clients[:20]:
        client.close()
    await asyncio.sleep(1.0)
    print(taken, len(front.connections))

asyncio.run(run())
"""


def test_without_descriptors_connections_wait_until_there_are_some() -> None:
    done = subprocess.run([sys.executable, "-c", _FEW_FILES], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    taken, later = map(int, done.stdout.split())
    assert 10 < taken < 30
    assert later == 10
    assert not done.stderr
