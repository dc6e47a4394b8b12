"""Spans of calls and of their stages, if a collector is configured."""

from typing import Any, Protocol

import grpc

from rf_platform.errors import ConfigError
from rf_platform.redaction import without_password
from rf_platform.settings import Settings
from rf_serving.server.call_context import Call


class Span(Protocol):
    """One call, as it is traced."""

    def end(self, status: grpc.StatusCode, call: Call) -> None:
        """Finish it, with what became known of the call."""


class Tracing(Protocol):
    """Makes spans."""

    def begin(self, method: str, request_id: str, context: Any) -> Span:
        """Begin the span of a call, below the caller's own if its metadata names one (W3C trace context)."""

    def close(self) -> None:
        """Send what has not been sent yet."""


class _NoSpan:
    def end(self, status: grpc.StatusCode, call: Call) -> None:
        """Do nothing."""


class _NoTracing:
    """Tracing that is off: its spans go nowhere."""

    def __init__(self) -> None:
        self._span = _NoSpan()

    def begin(self, method: str, request_id: str, context: Any) -> Span:
        """Return a span that is nowhere."""
        return self._span

    def close(self) -> None:
        """Do nothing."""


NO_TRACING: Tracing = _NoTracing()


def open_tracing(settings: Settings) -> Tracing:
    """Return what traces calls, as ``RF_OTEL_ENDPOINT`` says.

    Raises:
        ConfigError: an endpoint is set, and OpenTelemetry is not installed.
    """
    if settings.otel_endpoint is None:
        return NO_TRACING
    try:
        from rf_serving.server.opentelemetry_tracing import OpenTelemetryTracing
    except ImportError as error:
        raise ConfigError(
            f"RF_OTEL_ENDPOINT={without_password(settings.otel_endpoint)!r} is set, but OpenTelemetry is not installed "
            f"({error}); run `pip install 'retrievalformer[otel]'`, or unset it"
        ) from error
    return OpenTelemetryTracing.exporting(settings.otel_endpoint, settings.otel_sample)
