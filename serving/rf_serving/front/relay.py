"""Relay of streaming calls to another gRPC server of this process."""

import asyncio
import re
from typing import Any

import grpc
import grpc.aio

from rf_serving.front.call import Call
from rf_serving.front.messages import MessageFaultError

_NAME = re.compile(r"[0-9a-z_.-]+")
_EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]  # not in the stubs
_OF_CHANNELS = frozenset({"user-agent", "host"})


class Relay:
    """Relays calls over one channel: their messages, metadata, deadline, cancellation and status.

    Args:
        target: of the other server, such as ``unix:/run/inner``.
    """

    def __init__(self, target: str) -> None:
        unlimited = [
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            ("grpc.use_local_subchannel_pool", 1),
        ]
        self._channel: Any = grpc.aio.insecure_channel(target, unlimited)
        self._tasks: set[asyncio.Task[None]] = set()

    def take(self, call: Call) -> None:
        """Relay a call until it ends or its caller leaves."""
        task = asyncio.get_running_loop().create_task(self._relay(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        call.cancelled = task.cancel

    async def close(self) -> None:
        """End what is being relayed."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._channel.close()

    async def _relay(self, call: Call) -> None:
        inner: Any = self._channel.stream_stream(call.head.path)(
            timeout=call.time_remaining(), metadata=_carried(call.head.metadata)
        )
        sending = asyncio.create_task(_send(call, inner))
        try:
            call.begin(_carried(await inner.initial_metadata()))
            while (message := await inner.read()) is not _EOF:
                await call.send(message)
        except grpc.aio.AioRpcError:
            pass  # it has a status, as below
        finally:
            sending.cancel()
            if not inner.done():
                inner.cancel()
        call.set_trailing_metadata(_carried(await inner.trailing_metadata()))
        call.fail(await inner.code(), await inner.details() or "")


async def _send(call: Call, inner: Any) -> None:
    try:
        while (message := await call.receive()) is not None:
            await _write(inner, message)
        await inner.done_writing()
    except MessageFaultError as fault:
        call.finish(fault.status, fault.message)
        inner.cancel()
    except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
        pass  # it has ended, and its status says how


async def _write(inner: Any, message: bytes) -> None:
    """Write a message into a call.

    ``inner.write`` would end a call that the other server has just refused with a status of its own, INTERNAL, in the place of
    the one that is on its way.

    Raises:
        grpc.aio.AioRpcError: the call has ended.
    """
    await inner.wait_for_connection()
    try:
        await inner._cython_call.send_serialized_message(message)
    except grpc.aio.InternalError:
        await inner.code()


def _carried(metadata: Any) -> list[tuple[str, str | bytes]]:
    """Return the metadata that a channel may carry."""
    return [
        (name, value)
        for name, value in metadata or ()
        if not name.startswith("grpc-") and name not in _OF_CHANNELS and _NAME.fullmatch(name)
    ]
