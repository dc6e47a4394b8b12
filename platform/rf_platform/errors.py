"""Errors the platform raises on purpose: each knows its exit code and its gRPC status.

The command line turns an :class:`RfError` into one sentence and :attr:`RfError.exit_code`; the gRPC server's interceptor
turns it into :attr:`RfError.grpc_status`. Anything else is a bug and keeps its traceback.
"""

from typing import ClassVar


class RfError(Exception):
    """An expected failure, with a message that names the value at fault, where it came from and the remedy."""

    exit_code: ClassVar[int] = 1
    """1: the run failed; 2: the usage or the configuration is at fault."""
    grpc_status: ClassVar[str] = "INTERNAL"
    """Name of a ``grpc.StatusCode`` member."""
    told: ClassVar[bool] = False
    """Whether callers of a server read the message. Others may name files, hosts or users of the server: those are in its log."""


class UsageError(RfError):
    """An argument or a request field is wrong."""

    told = True
    exit_code = 2
    grpc_status = "INVALID_ARGUMENT"


class TooManyError(UsageError):
    """A request has more of something than a request may have."""

    def __init__(self, message: str, most: int) -> None:
        """``most``: how many it may have."""
        super().__init__(message)
        self.most = most


class ConfigError(RfError):
    """A setting, a feature definition or a recipe is wrong or inconsistent."""

    exit_code = 2
    grpc_status = "FAILED_PRECONDITION"


class UnsupportedError(ConfigError):
    """A request asks for what the served bundle does not have."""

    told = True


class NotFoundError(RfError):
    """Something asked for by name does not exist."""

    exit_code = 2
    grpc_status = "NOT_FOUND"


class DataError(RfError):
    """Input data breaks its contract."""

    told = True
    grpc_status = "INVALID_ARGUMENT"


class CorruptError(RfError):
    """A stored artifact is damaged: a file is missing or its checksum differs."""

    grpc_status = "DATA_LOSS"


class UntrustedError(RfError):
    """A bundle is not signed by a key that is trusted."""

    grpc_status = "FAILED_PRECONDITION"


class RunError(RfError):
    """A long-running job failed for a reason that is not a bug (a NaN loss, an empty split)."""

    grpc_status = "INTERNAL"


class InterruptedRunError(RunError):
    """An interrupt that ended a long-running job; the message says how to go on with it."""


class UnavailableError(RfError):
    """A store, registry or server cannot be reached."""

    grpc_status = "UNAVAILABLE"


class IndexAwayError(UnavailableError):
    """A search engine that holds an index does not answer."""


class OverloadedError(RfError):
    """There is more to do than the server can; what is refused costs next to nothing."""

    told = True
    grpc_status = "RESOURCE_EXHAUSTED"
