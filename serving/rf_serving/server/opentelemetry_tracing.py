"""OpenTelemetry spans: one for each call, with one below it for each stage."""

from time import perf_counter, time_ns
from typing import Any, Self

import grpc
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ParentBasedTraceIdRatio
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rf_serving.server.call_context import Call

SERVICE_NAME = "retrievalformer"
_PATH = "/v1/traces"
_ERRORS = (
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
)
"""Statuses that are failures of a server by OpenTelemetry's conventions for RPC."""


class OpenTelemetryTracing:
    """Makes spans by OpenTelemetry's conventions for RPC, and sends them from a thread of its own."""

    def __init__(self, exporter: SpanExporter, sample: float) -> None:
        """Begin.

        Args:
            exporter: where spans go.
            sample: share of the calls that get a span, 0 to 1, where the caller has not decided.
        """
        self._provider = TracerProvider(
            resource=Resource.create({"service.name": SERVICE_NAME}), sampler=ParentBasedTraceIdRatio(sample)
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("rf_serving")
        self._propagator = TraceContextTextMapPropagator()

    @classmethod
    def exporting(cls, endpoint: str, sample: float) -> Self:
        """Send spans to a collector by OTLP over HTTP; ``endpoint`` such as ``http://localhost:4318``."""
        url = endpoint if endpoint.endswith(_PATH) else endpoint.rstrip("/") + _PATH
        return cls(OTLPSpanExporter(endpoint=url), sample)

    def begin(self, method: str, request_id: str, context: Any) -> "CallSpan":
        """Begin the span of a call."""
        carrier = {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}
        began = time_ns(), perf_counter()  # in this order: no stage seems to begin before its call
        span = self._tracer.start_span(
            f"retrievalformer.v1/{method}",
            start_time=began[0],
            context=self._propagator.extract(carrier),
            kind=SpanKind.SERVER,
            attributes={"rpc.system": "grpc", "rpc.method": method, "rf.request_id": request_id},
        )
        return CallSpan(self._tracer, span, began)

    def close(self) -> None:
        """Send what has not been sent yet."""
        self._provider.shutdown()


class CallSpan:
    """The span of one call."""

    def __init__(self, tracer: Any, span: Span, began: tuple[int, float]) -> None:
        self._tracer, self._span, self._began = tracer, span, began

    def end(self, status: grpc.StatusCode, call: Call) -> None:
        """Add the stages and what was noted, and end."""
        span = self._span
        if not span.is_recording():
            return
        span.set_attribute("rpc.grpc.status_code", status.value[0])
        for name in ("bundle", "k", "items", "rerank", "cold", "degraded"):
            if name in call.notes:
                span.set_attribute(f"rf.{name}", call.notes[name])
        if status in _ERRORS:
            span.set_status(Status(StatusCode.ERROR, str(call.notes.get("error", status.name))))
        within = set_span_in_context(span)
        wall_ns, clock = self._began
        for stage, seconds in call.seconds.items():
            begin = wall_ns + int((call.begins[stage] - clock) * 1e9)
            self._tracer.start_span(stage, context=within, start_time=begin).end(begin + int(seconds * 1e9))
        span.end()
