"""A gRPC server that does nothing but answer: what a call costs before any work is done for it.

Run as a module: prints its port, then serves until its standard input ends.
"""

import asyncio
import sys

import grpc
import grpc.aio

METHOD = "/echo.Echo/Reply"


async def main(reply_bytes: int) -> None:
    """Answer every call with as many bytes."""
    reply = bytes(reply_bytes)

    async def answer(request: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return reply

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("echo.Echo", {"Reply": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
