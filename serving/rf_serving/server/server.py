"""The gRPC server: services, health, reflection, drain."""

import asyncio
from contextlib import suppress

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from rf_platform.errors import UnavailableError, UsageError
from rf_platform.features.store import first_line
from rf_protos.v1 import retrieval_pb2
from rf_protos.v1.retrieval_pb2_grpc import add_RetrievalServiceServicer_to_server
from rf_serving.retrieval.retriever import Query, Retriever
from rf_serving.server.interceptor import CallInterceptor
from rf_serving.server.metrics import ServerMetrics
from rf_serving.server.servicer import RetrievalServicer

SERVICE: str = retrieval_pb2.DESCRIPTOR.services_by_name["RetrievalService"].full_name

_LINGER_SECONDS = 0.5
_FIRST_FETCH_SECONDS = 30.0  # the first read opens connections and imports drivers


class RetrievalServer:
    """A server on one address; it is bound at once and answers after :meth:`start`. Make it inside the event loop."""

    def __init__(self, host: str, port: int, metrics: ServerMetrics) -> None:
        """Bind the address.

        Raises:
            UsageError: the address is taken or not ours.
        """
        self._interceptor = CallInterceptor(metrics)
        # Without this a second server on the same port would silently take half of the calls.
        self._server = grpc.aio.server(interceptors=[self._interceptor], options=[("grpc.so_reuseport", 0)])
        self._health = health.aio.HealthServicer()  # type: ignore[attr-defined]  # not in the stubs
        try:
            self.port: int = self._server.add_insecure_port(f"{host}:{port}")
        except RuntimeError as error:
            raise UsageError(
                f"the address {host}:{port} cannot be bound: it is in use or not this machine's; choose another --host or --port"
            ) from error
        self.address = f"{host}:{self.port}"

    async def start(self, retriever: Retriever, max_k: int) -> None:
        """Try one query through all stages, then accept calls and report SERVING.

        Raises:
            RfError: the query fails: the server does not start.
        """
        await _try(retriever)
        add_RetrievalServiceServicer_to_server(RetrievalServicer(retriever, max_k), self._server)  # type: ignore[no-untyped-call]
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        await self._health.set(SERVICE, health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def drain(self, seconds: float) -> bool:
        """Report NOT_SERVING, accept no more calls, finish those in flight; return whether all were finished in time."""
        await self._health.enter_graceful_shutdown()
        stopping = asyncio.create_task(self._server.stop(seconds + _LINGER_SECONDS))
        with suppress(TimeoutError):
            await asyncio.wait_for(self._interceptor.wait_until_idle(), seconds)
        finished = not self._interceptor.active
        # Left are replies on their way out, and health watches and reflection streams, which end when the caller pleases.
        await self._server.stop(_LINGER_SECONDS if finished else None)
        await stopping
        return finished


async def _try(retriever: Retriever) -> None:
    unknown = "-" if retriever.bundle.spec.user.id_type == "string" else -1
    try:
        await retriever.retrieve(Query(subject=unknown, k=1, exclude_seen=True), _FIRST_FETCH_SECONDS)
    except UnavailableError as error:
        why = first_line(error.__cause__) if isinstance(error.__cause__, Exception) else "no reason given"
        raise UnavailableError(
            f"{error} ({why}); check RF_ONLINE_STORE_URL, and load it with `rf features materialize`"
        ) from error
