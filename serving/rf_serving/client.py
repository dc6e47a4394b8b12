"""A blocking client, for the command line and for scripts; services use the generated stubs directly."""

from types import TracebackType
from typing import Self

import grpc

from rf_platform.errors import RfError, RunError, UnavailableError, UsageError
from rf_protos.v1.retrieval_pb2 import RetrieveRequest, RetrieveResponse
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub
from rf_serving.server.interceptor import REQUEST_ID


class RetrievalClient:
    """Calls a server, and raises what it answers as one of our errors."""

    def __init__(self, address: str, timeout: float = 10.0) -> None:
        """Connect lazily.

        Args:
            address: ``host:port``.
            timeout: seconds a call may take.
        """
        self._address, self._timeout = address, timeout
        self._channel = grpc.insecure_channel(address)
        self._stub = RetrievalServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._channel.close()

    def retrieve(self, request: RetrieveRequest) -> RetrieveResponse:
        """Call ``Retrieve``.

        Raises:
            UsageError: the server says that the request is wrong.
            UnavailableError: no server answers, or it cannot answer now.
            RunError: the server failed.
        """
        try:
            response: RetrieveResponse = self._stub.Retrieve(request, timeout=self._timeout)
        except grpc.RpcError as error:
            raise self._translated(error) from None
        return response

    def _translated(self, error: grpc.RpcError) -> RfError:
        assert isinstance(error, grpc.Call)
        code, details = error.code(), error.details()
        request_id = next((value for key, value in error.trailing_metadata() or () if key == REQUEST_ID), None)
        if code is grpc.StatusCode.INVALID_ARGUMENT:
            return UsageError(f"the server at {self._address} refuses the request: {details}")
        if code is grpc.StatusCode.UNAVAILABLE and request_id is None:
            return UnavailableError(
                f"no server answers at {self._address}; start one with `rf serve`, or give its --address"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return UnavailableError(f"the server at {self._address} did not answer within {self._timeout:g} s")
        kind = UnavailableError if code is grpc.StatusCode.UNAVAILABLE else RunError
        known_as = f" (request id {request_id!s})" if request_id else ""
        return kind(f"the server at {self._address} answers {code.name}: {details}{known_as}")
