"""A blocking client, for the command line and for scripts; services use the generated stubs directly."""

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc
from google.protobuf.message import Message
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from rf_platform.errors import ConfigError, RfError, RunError, TooManyError, UnavailableError, UsageError
from rf_protos.v1.catalog_pb2 import (
    DeleteItemsRequest,
    DeleteItemsResponse,
    DeleteStatus,
    GetItemsRequest,
    GetItemsResponse,
    Item,
    ListItemsRequest,
    ListItemsResponse,
    UpsertItemsRequest,
    UpsertItemsResponse,
    UpsertStatus,
)
from rf_protos.v1.catalog_pb2_grpc import CatalogServiceStub
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse, ShadowReport
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.feedback_pb2 import Event, EventStatus, RecordEventsRequest, RecordEventsResponse
from rf_protos.v1.feedback_pb2_grpc import FeedbackServiceStub
from rf_protos.v1.retrieval_pb2 import (
    RetrieveRequest,
    RetrieveResponse,
    SimilarItemsRequest,
    SimilarItemsResponse,
)
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.server.call_context import REQUEST_ID
from rf_serving.server.error_details import STATUS_DETAILS, told_limit

T = TypeVar("T")
_PAGE = 10_000
_MOST = 200
"""Most items or events in one request; fewer where the server takes fewer."""
_MOST_BYTES = 1024 * 1024
"""Size of the items or events in one request above which the next one begins."""


def _nobody(_: int) -> None:
    pass


class RetrievalClient:
    """Calls a server, and raises what it answers as one of our errors.

    Methods that take items or events take any number of them, and make as many requests of them as the server's limits ask for;
    their argument ``done`` is told after each request how many values it had.
    """

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
        self._address, self._timeout, self._most = address, timeout, _MOST
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
        self._health = HealthStub(self._channel)

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

    def similar(self, request: SimilarItemsRequest) -> SimilarItemsResponse:
        """Call ``SimilarItems``; raises as :meth:`retrieve`."""
        response: SimilarItemsResponse = self._call(self._retrieval.SimilarItems, request)
        return response

    def deployment(self) -> GetDeploymentResponse:
        """Call ``GetDeployment``; raises as :meth:`retrieve`."""
        response: GetDeploymentResponse = self._call(self._deployment.GetDeployment, GetDeploymentRequest())
        return response

    def check_health(self) -> None:
        """Make sure that the server answers and says that it serves; needs no token.

        Raises:
            UnavailableError: it does not.
        """
        answer = self._call(self._health.Check, HealthCheckRequest())
        if answer.status != HealthCheckResponse.SERVING:
            raise UnavailableError(f"the server at {self._address} does not serve now; its log has the reason")

    def record(self, events: Sequence[Event], done: Callable[[int], None] = _nobody) -> list[EventStatus]:
        """Call ``RecordEvents`` and return what became of each event; raises as :meth:`retrieve`."""

        def ask(some: Sequence[Event]) -> RecordEventsResponse:
            response: RecordEventsResponse = self._call(self._feedback.RecordEvents, RecordEventsRequest(events=some))
            return response

        return [status for response in self._parts(events, ask, done) for status in response.statuses]

    def upsert(
        self,
        items: Sequence[Item],
        neighbours: int = 0,
        *,
        validate_only: bool = False,
        done: Callable[[int], None] = _nobody,
    ) -> list[UpsertStatus]:
        """Call ``UpsertItems`` and return what became of each item, or would; raises as :meth:`retrieve`."""

        def ask(some: Sequence[Item]) -> UpsertItemsResponse:
            request = UpsertItemsRequest(items=some, neighbours=neighbours, validate_only=validate_only)
            response: UpsertItemsResponse = self._call(self._catalog.UpsertItems, request)
            return response

        return [status for response in self._parts(items, ask, done) for status in response.statuses]

    def delete(self, item_ids: Sequence[str], done: Callable[[int], None] = _nobody) -> list[DeleteStatus]:
        """Call ``DeleteItems`` and return what became of each item; raises as :meth:`retrieve`."""

        def ask(some: Sequence[str]) -> DeleteItemsResponse:
            response: DeleteItemsResponse = self._call(self._catalog.DeleteItems, DeleteItemsRequest(item_ids=some))
            return response

        return [status for response in self._parts(item_ids, ask, done) for status in response.statuses]

    def items(self, item_ids: Sequence[str]) -> GetItemsResponse:
        """Call ``GetItems``; raises as :meth:`retrieve`."""

        def ask(some: Sequence[str]) -> GetItemsResponse:
            response: GetItemsResponse = self._call(self._catalog.GetItems, GetItemsRequest(item_ids=some))
            return response

        whole = GetItemsResponse()
        for part in self._parts(item_ids, ask):
            whole.ClearField("display_fields")  # those of the last part: a server may have another bundle by now
            whole.MergeFrom(part)
        return whole

    def item_ids(self, *, recommendable: bool = False) -> Iterator[str]:
        """Call ``ListItems`` for page after page and yield the ids of all items, or of those that are recommended, ascending.

        Raises as :meth:`retrieve`.
        """
        token = ""
        while True:
            request = ListItemsRequest(page_size=_PAGE, page_token=token, recommendable=recommendable)
            response: ListItemsResponse = self._call(self._catalog.ListItems, request)
            yield from response.item_ids
            if not (token := response.next_page_token):
                return

    def _parts(
        self, values: Sequence[Any], ask: Callable[[Sequence[Any]], T], done: Callable[[int], None] = _nobody
    ) -> Iterator[T]:
        """Yield the responses for values, some at a time: fewer, once the server has said how many it takes."""
        start = 0
        while start < len(values):
            end = end_of_part(values, start, self._most)
            try:
                response = ask(values[start:end])
            except TooManyError as error:
                if not 0 < error.most < end - start:
                    raise
                self._most = error.most
                continue
            yield response
            done(end - start)
            start = end

    def _call(self, method: Any, request: Any) -> Any:
        try:
            return method(request, timeout=self._timeout, metadata=self._metadata)
        except grpc.RpcError as error:
            raise self._translated(error) from None

    def _translated(self, error: grpc.RpcError) -> RfError:
        assert isinstance(error, grpc.Call)
        code, details = error.code(), error.details()
        trailers = list(error.trailing_metadata() or ())
        request_id = next((value for key, value in trailers if key == REQUEST_ID), None)
        if code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.FAILED_PRECONDITION):
            refusal = f"the server at {self._address} refuses the request: {details}"
            most = next((told_limit(value) for key, value in trailers if key == STATUS_DETAILS), None)
            return UsageError(refusal) if most is None else TooManyError(refusal, most)
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


def end_of_part(values: Sequence[str | Message], start: int, most: int) -> int:
    """Return where the values of a request end that begins at one of them."""
    size, end = 0, start
    while end < min(len(values), start + most) and (end == start or size < _MOST_BYTES):
        value = values[end]
        size += value.ByteSize() if isinstance(value, Message) else len(value)
        end += 1
    return end


def shadow_figures(address: str, name: str) -> ShadowReport | None:
    """Return how a shadow compares with the active bundle, as a server has it; None: it has another one, or none.

    Raises:
        UnavailableError: no server answers.
    """
    with RetrievalClient(address) as client:
        found = client.deployment()
    return found.shadow_report if found.HasField("shadow") and found.shadow.name == name else None


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
