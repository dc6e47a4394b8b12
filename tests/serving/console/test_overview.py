"""The first page of the console, and the metrics behind it."""

import json
import math
from http.client import HTTPConnection
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from rf_console.audit import AuditLog
from rf_console.metrics import MetricsReader, quantile, read_samples
from rf_platform.errors import UnavailableError
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.server.metrics import ServerMetrics, exposed

from ..conftest import RunningServer
from .conftest import Browser, running_console


def test_what_is_served(browser: Browser) -> None:
    shown = browser.get("/")
    assert "tiny-run-1" in shown.words
    assert "serving" in shown.words
    assert "promote tiny-run-1" in shown.words
    assert "No training goes on" in shown.words
    assert "--metrics-port" in shown.words


def test_rates_and_latencies(settings: Settings, served: RunningServer) -> None:
    with exposed(served.metrics.registry, "127.0.0.1", 0) as port:
        url = f"http://127.0.0.1:{port}/metrics"
        with running_console(settings, address=served.server.address, metrics_url=url) as own:
            served.stub.Retrieve(RetrieveRequest(user_id="1", k=3))
            shown = Browser(own).get("/")
            assert "Retrieve" in shown.words
            assert "p99" in shown.words
            assert "search" in shown.words


def test_the_live_part_comes_as_events(browser: Browser) -> None:
    connection = HTTPConnection("127.0.0.1", browser.port, timeout=30)
    connection.request(
        "GET", "/overview/live", headers={"cookie": "; ".join(f"{n}={v}" for n, v in browser.cookies.items())}
    )
    reply = connection.getresponse()
    assert reply.getheader("content-type", "").startswith("text/event-stream")
    lines = []
    while (line := reply.readline().decode()).strip():
        lines.append(line)
    connection.close()
    assert all(line.startswith("data: ") for line in lines)
    assert "tiny-run-1" in "".join(lines)


def test_quantiles_are_interpolated() -> None:
    counts = [(0.1, 10.0), (0.2, 20.0), (math.inf, 20.0)]
    assert quantile(counts, 0.5) == pytest.approx(0.1)
    assert quantile(counts, 0.75) == pytest.approx(0.15)
    assert quantile([(0.1, 0.0), (math.inf, 4.0)], 0.5) == pytest.approx(0.1)
    assert math.isnan(quantile([(0.1, 0.0), (math.inf, 0.0)], 0.5))


def test_rates_are_those_between_two_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    now, metrics = [0.0], ServerMetrics()
    reader = MetricsReader("http://unused", clock=lambda: now[0])
    monkeypatch.setattr(reader, "_fetch", lambda: generate_latest(metrics.registry).decode())
    metrics.observe_call("Retrieve", "OK", 0.003, cold=False, degraded=False)
    reader.now()
    for _ in range(4):
        metrics.observe_call("Retrieve", "OK", 0.003, cold=False, degraded=False)
    metrics.observe_call("Retrieve", "INTERNAL", 0.003, cold=False, degraded=False)
    assert reader.now() is reader.now()  # not read more often than once a second
    now[0] = 2.0
    reading = reader.now()
    assert reading.rate == pytest.approx(2.5)
    assert reading.errors == {"INTERNAL": pytest.approx(0.5)}
    (retrieve,) = reading.methods
    assert 0.0025 < retrieve.p50 < retrieve.p99 <= 0.005
    now[0] = 4.0
    assert reader.now().rate == 0
    assert [rate for _, rate, _ in reader.history()][1:] == [pytest.approx(2.5), 0]


def test_what_is_no_page_of_metrics() -> None:
    with pytest.raises(UnavailableError, match="no page of metrics"):
        read_samples("a b c d\n}{")
    with pytest.raises(UnavailableError, match="cannot be read"):
        MetricsReader("http://127.0.0.1:1/metrics").now()


def test_the_audit_log_is_only_added_to(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "console" / "audit.jsonl")
    assert log.latest(5) == []
    for number in range(3):
        log.add(who="a", role="admin", address="::1", action="promote", given={"name": f"b{number}\n"}, outcome="done")
    with log.path.open("a") as file:
        file.write('{"at": "cut o')
    assert [line["given"]["name"] for line in log.latest(2)] == ["b2\n", "b1\n"]
    assert (log.path.stat().st_mode & 0o777) == 0o600
    assert len(log.path.read_text().splitlines()) == 4
    assert json.loads(log.path.read_text().splitlines()[0])["who"] == "a"
