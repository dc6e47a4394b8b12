"""A server with a port of HTTP, and a client of the standard library."""

import json
import ssl
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection, HTTPSConnection
from typing import Any, NamedTuple

import pytest

from rf_platform.settings import Settings

from ..conftest import RunningServer, running_server

RETRIEVE = "/retrievalformer.v1.RetrievalService/Retrieve"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Keeps one connection."""

    def __init__(self, running: RunningServer, tls: ssl.SSLContext | None = None) -> None:
        assert running.server.http_port is not None
        self.connection = (
            HTTPConnection("127.0.0.1", running.server.http_port, timeout=60)
            if tls is None
            else HTTPSConnection("localhost", running.server.http_port, timeout=60, context=tls)
        )

    def ask(self, verb: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        self.connection.request(verb, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        reply = self.connection.getresponse()
        return Answer(reply.status, {name.lower(): value for name, value in reply.getheaders()}, reply.read())

    def __del__(self) -> None:
        self.connection.close()

    def post(self, path: str, message: Any, **headers: str) -> Answer:
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return self.ask("POST", path, body, content_type="application/json", **headers)


@pytest.fixture(scope="module")
def running(settings: Settings, home: Any) -> Iterator[RunningServer]:
    with running_server(settings, http_port=0) as made:
        yield made


@pytest.fixture
def client(running: RunningServer) -> Client:
    return Client(running)
