"""Relayed calls end with the status of the server behind, also where that ends them while their messages still come."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
import pytest

from rf_serving.front.relay import Relay

CALLS, MESSAGES = 300, 5
REFUSED = grpc.StatusCode.UNAUTHENTICATED, "no token"


class Refusing(grpc.GenericRpcHandler):  # type: ignore[type-arg]  # it has none at run time
    """Ends every call before it reads of it."""

    def service(self, handler_call_details: Any) -> Any:
        async def refuse(requests: Any, context: Any) -> None:
            context.set_trailing_metadata([("why", "refused")])
            await context.abort(*REFUSED)

        return grpc.stream_stream_rpc_method_handler(refuse)


class Caller:
    """A call whose messages are all there, and that notes how it ends."""

    def __init__(self) -> None:
        self.head = SimpleNamespace(path="/test.Refusing/Stream", metadata=())
        self.cancelled: Any = None
        self.trailing: Any = ()
        self.ended: asyncio.Future[tuple[grpc.StatusCode, str]] = asyncio.get_running_loop().create_future()
        self._messages: Iterator[bytes] = iter([b"message"] * MESSAGES)

    def time_remaining(self) -> float:
        return 30.0

    def begin(self, metadata: Any) -> None:
        pass

    def set_trailing_metadata(self, metadata: Any) -> None:
        self.trailing = metadata

    async def receive(self) -> bytes | None:
        return next(self._messages, None)

    def fail(self, code: grpc.StatusCode, details: str) -> None:
        self.ended.set_result((code, details))


async def relayed(address: str) -> list[tuple[tuple[grpc.StatusCode, str], Any]]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Refusing(),))
    server.add_insecure_port(address)
    await server.start()
    relay = Relay(address)
    try:
        callers = [Caller() for _ in range(CALLS)]
        for caller in callers:
            relay.take(caller)  # type: ignore[arg-type]
        return [(await asyncio.wait_for(caller.ended, 30), caller.trailing) for caller in callers]
    finally:
        await relay.close()
        await server.stop(None)


@pytest.mark.parametrize("turn", range(2))
def test_a_refusal_arrives_however_far_the_messages_have_come(tmp_path: Path, turn: int) -> None:
    answers = asyncio.run(relayed(f"unix:{tmp_path}/inner"))
    assert {status for status, _ in answers} == {REFUSED}
    assert all(dict(trailing)["why"] == "refused" for _, trailing in answers)
