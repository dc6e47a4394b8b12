"""OpenTelemetry spans, in memory and over HTTP to a collector."""

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from rf_platform.errors import ConfigError
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.server.call_context import Call
from rf_serving.server.tracing import NO_TRACING, open_tracing

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


def test_without_an_endpoint_nothing_is_traced() -> None:
    assert open_tracing(Settings(otel_endpoint=None)) is NO_TRACING


def test_an_endpoint_without_the_libraries_is_an_error_of_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    monkeypatch.delitem(sys.modules, "rf_serving.server.opentelemetry_tracing", raising=False)
    with pytest.raises(ConfigError, match=r"RF_OTEL_ENDPOINT='http://x:4318' is set, .*retrievalformer\[otel\]"):
        open_tracing(Settings(otel_endpoint="http://x:4318"))


@pytest.fixture
def otel() -> Any:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    from rf_serving.server import opentelemetry_tracing

    return opentelemetry_tracing


@pytest.mark.both_fronts
def test_a_call_is_a_span_with_its_stages_below(
    otel: Any, settings: Settings, home: Path, start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    tracing = otel.OpenTelemetryTracing(memory, 1.0)
    with start_server(settings, tracing=tracing) as running:
        metadata = [("traceparent", PARENT), ("x-request-id", "traced-1")]
        running.stub.Retrieve(RetrieveRequest(user_id="17", k=3), metadata=metadata)
        with pytest.raises(grpc.RpcError):
            running.stub.Retrieve(RetrieveRequest())
        wait_until(lambda: running.admission.active == 0)
    tracing.close()
    spans: Any = memory.get_finished_spans()
    call, wrong = [span for span in spans if span.name == "retrievalformer.v1/Retrieve"]
    stages = {
        span.name: span for span in spans if span.parent is not None and span.parent.span_id == call.context.span_id
    }
    assert set(stages) == {"fetch", "encode", "search", "filter"}
    assert f"{call.context.trace_id:032x}" == TRACE  # the caller's trace goes on
    assert call.attributes["rf.request_id"] == "traced-1"
    assert call.attributes["rf.bundle"] == "tiny-run-1"
    assert call.attributes["rpc.grpc.status_code"] == 0
    for stage in stages.values():
        assert call.start_time <= stage.start_time <= stage.end_time <= call.end_time
    assert stages["fetch"].start_time <= stages["encode"].start_time
    assert wrong.attributes["rpc.grpc.status_code"] == 3
    assert wrong.status.description is None  # a caller's mistake is no failure of the server


def test_spans_reach_a_collector(otel: Any) -> None:
    received: list[tuple[str, bytes]] = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Collector) as collector:
        thread = Thread(target=collector.serve_forever)
        thread.start()
        tracing = open_tracing(Settings(otel_endpoint=f"http://127.0.0.1:{collector.server_port}", otel_sample=1.0))
        context = SimpleNamespace(invocation_metadata=lambda: ())
        tracing.begin("Retrieve", "id-1", context).end(grpc.StatusCode.INTERNAL, Call(notes={"error": "a bug"}))
        tracing.close()
        collector.shutdown()
        thread.join()
    ((path, body),) = received
    assert path == "/v1/traces"
    assert b"retrievalformer.v1/Retrieve" in body
    assert b"a bug" in body


def test_only_a_share_is_traced_unless_the_caller_decides(otel: Any) -> None:
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    memory = InMemorySpanExporter()
    tracing = otel.OpenTelemetryTracing(memory, 0.0)
    plain = SimpleNamespace(invocation_metadata=lambda: ())
    traced = SimpleNamespace(invocation_metadata=lambda: (("traceparent", PARENT),))
    tracing.begin("Retrieve", "1", plain).end(grpc.StatusCode.OK, Call())
    tracing.begin("Retrieve", "2", traced).end(grpc.StatusCode.OK, Call())
    tracing.close()
    (span,) = memory.get_finished_spans()
    assert span.attributes is not None
    assert span.attributes["rf.request_id"] == "2"
