"""A blocking client, for the command line and for scripts; services use the generated stubs directly."""

import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from rf_platform.errors import ConfigError, RfError, RunError, UnavailableError, UsageError
from rf_protos.v1.catalog_pb2 import (
    DeleteItemsRequest,
    DeleteItemsResponse,
    DeleteStatus,
    GetItemsRequest,
    GetItemsResponse,
    Item,
    UpsertItemsRequest,
    UpsertItemsResponse,
    UpsertStatus,
)
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest, RecordEventsResponse
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.server.call_context import REQUEST_ID


class RetrievalClient:
    """Calls a server, and raises what it answers as one of our errors."""

    def __init__(
        self,
        address: str,
        timeout: float = 10.0,
        *,
        token: str | None = None,
        tls_ca: Path | None = None,
        tls_cert: Path | None = None,
        tls_key: Path | None = None,
    ) -> None:
        """Connect lazily.

        Args:
            address: ``host:port``.
            timeout: seconds a call may take.
            token: sent with every call; default: ``RF_TOKEN``.
            tls_ca: certificates (PEM) that the server's is signed by; default: ``RF_TLS_CA``; neither: no TLS.
            tls_cert: a certificate of our own (PEM), for a server that asks for one; default: ``RF_TLS_CLIENT_CERT``.
            tls_key: its key (PEM); default: ``RF_TLS_CLIENT_KEY``.

        Raises:
            ConfigError: a certificate cannot be read.
        """
        self._address, self._timeout = address, timeout
        token = token or os.environ.get("RF_TOKEN")
        self._metadata = [("authorization", f"Bearer {token}")] if token else []
        ca, cert, key = (
            _pem(path, variable)
            for path, variable in (
                (tls_ca, "RF_TLS_CA"),
                (tls_cert, "RF_TLS_CLIENT_CERT"),
                (tls_key, "RF_TLS_CLIENT_KEY"),
            )
        )
        self._channel = (
            grpc.secure_channel(address, grpc.ssl_channel_credentials(ca, key, cert))
            if ca is not None
            else grpc.insecure_channel(address)
        )
        self._retrieval = RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._catalog = CatalogServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._feedback = FeedbackServiceStub(self._channel)  # type: ignore[no-untyped-call]
        self._deployment = DeploymentServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """Call ``Retrieve``.

        Raises:
            UsageError: the server says that the request is wrong or asks for what it does not have, or wants a token.
            UnavailableError: no server answers, or it cannot answer now.
            RunError: the server failed.
        """
        response: RetrieveResponse = self._call(self._retrieval.Retrieve, request)
        return response

    def deployment(self) -> GetDeploymentResponse:
        """Call ``GetDeployment``; raises as :meth:`retrieve`."""
        response: GetDeploymentResponse = self._call(self._deployment.GetDeployment, GetDeploymentRequest())
        return response

    def record(self, events: Sequence[Event]) -> list[EventStatus]:
        """Call ``RecordEvents`` and return what became of each event; raises as :meth:`retrieve`."""
        response: RecordEventsResponse = self._call(self._feedback.RecordEvents, RecordEventsRequest(events=events))
        return list(response.statuses)

    def upsert(self, items: Sequence[Item], neighbours: int = 0) -> list[UpsertStatus]:
        """Call ``UpsertItems`` and return what became of each item; raises as :meth:`retrieve`."""
        request = UpsertItemsRequest(items=items, neighbours=neighbours)
        response: UpsertItemsResponse = self._call(self._catalog.UpsertItems, request)
        return list(response.statuses)

    def delete(self, item_ids: Sequence[str]) -> list[DeleteStatus]:
        """Call ``DeleteItems`` and return what became of each item; raises as :meth:`retrieve`."""
        response: DeleteItemsResponse = self._call(self._catalog.DeleteItems, DeleteItemsRequest(item_ids=item_ids))
        return list(response.statuses)

    def items(self, item_ids: Sequence[str]) -> GetItemsResponse:
        """Call ``GetItems``; raises as :meth:`retrieve`."""
        response: GetItemsResponse = self._call(self._catalog.GetItems, GetItemsRequest(item_ids=item_ids))
        return response

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _translated(self, error: grpc.RpcError) -> RfError:
        assert isinstance(error, grpc.Call)
        code, details = error.code(), error.details()
        request_id = next((value for key, value in error.trailing_metadata() or () if key == REQUEST_ID), None)
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            return UsageError(f"the server at {self._address} refuses the request: {details}")
        if code in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
            return UsageError(f"the server at {self._address} does not let us in: {details}; set RF_TOKEN")
        if code is grpc.StatusCode.UNAVAILABLE and request_id is None:
            return UnavailableError(
                f"no server answers at {self._address}; start one with `rf serve`, or give its --address (for one with TLS, set "
                f"RF_TLS_CA)"
            )
        if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return UnavailableError(f"the server at {self._address} has too much to do: {details}")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnavailableError(f"the server at {self._address} did not answer within {self._timeout:g} s")
        kind = UnavailableError if code is grpc.StatusCode.UNAVAILABLE else RunError
        known_as = f" (request id {request_id!s})" if request_id else ""
        return kind(f"the server at {self._address} answers {code.name}: {details}{known_as}")


def _pem(path: Path | None, variable: str) -> bytes | None:
    """Return the bytes of a file that was given or that a variable names."""
    named = os.environ.get(variable)
    if path is None and not named:
        return None
    given = path or Path(str(named))
    try:
        return given.read_bytes()
    except OSError as error:
        raise ConfigError(f"{given} ({variable}) cannot be read: {error.strerror}") from error
