"""Supervisor of the workers of one server, and their metrics on one page; it answers no request itself."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, replace
from http.client import HTTPConnection, HTTPException
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from time import monotonic
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from rf_platform.errors import RunError, UsageError
from rf_platform.settings import Settings
from rf_serving.logs import START_LOG, configure_logs
from rf_serving.server.metrics import exposed
from rf_serving.server.options import ServeOptions
from rf_serving.server.process import READY, run_worker
from rf_serving.server.shared_port import shared_port

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0
_HEALTHY_SECONDS = 60.0
_ENDING_SECONDS = 10.0
_NEVER = float("inf")


def supervise(settings: Settings, options: ServeOptions) -> int:
    """Run the workers until SIGTERM or SIGINT, start again what ends by itself, and return the exit code.

    0: all workers finished what they were answering. 1: one did not, or had to be killed. A second signal makes them cut off what
    they are answering.

    The line ``serving`` is written when all of them answer and report SERVING.

    Raises:
        RfError: a worker cannot start, or ends before all of them serve; the others are ended.
    """
    configure_logs(options.log_level)
    with (
        shared_port(options.host, options.port) as port,
        _shared_http_port(options) as http_port,
        _wakes_at_signals() as wake,
    ):
        workers = _Workers(settings, replace(options, port=port, http_port=http_port), wake)
        with exposed(workers.metrics.registry, options.metrics_host, options.metrics_port) as metrics_port:
            return workers.run({} if metrics_port is None else {"metrics_port": metrics_port})


def _shared_http_port(options: ServeOptions) -> AbstractContextManager[int | None]:
    return nullcontext() if options.http_port is None else shared_port(options.host, options.http_port, "--http-port")


@dataclass(eq=False)
class _Worker:
    """A worker's place; the process in it may change."""

    number: int
    process: SpawnProcess | None = None
    reports: Connection | None = None
    ready: dict[str, Any] | None = None
    """Message of the worker when it began to answer."""
    started: float = 0.0
    start_at: float = 0.0
    pause: float = _FIRST_PAUSE


class _Workers:
    def __init__(self, settings: Settings, options: ServeOptions, wake: int) -> None:
        self._settings, self._options, self._wake = settings, options, wake
        self._log = structlog.get_logger("rf_serving")
        self._context = get_context("spawn")
        self._workers = [_Worker(number) for number in range(options.workers)]
        self._stopping = False
        self._serving = False
        self.metrics = WorkerMetrics(self._metrics_ports)

    def run(self, details: dict[str, Any]) -> int:
        try:
            # One first: what is wrong with all of them is said once.
            self._start(self._workers[0])
            while not self._stopping:
                self._wait()
                self._start_due()
                self._say_serving(details)
        except BaseException:
            for worker in self._workers:
                self._kill(worker)
            raise
        return self._end()

    def _start_due(self) -> None:
        if self._workers[0].ready is None and not self._serving:
            return
        for worker in self._workers:
            if worker.process is None and worker.start_at <= monotonic() and not self._stopping:
                self._start(worker)

    def _start(self, worker: _Worker) -> None:
        options = replace(
            self._options,
            metrics_host="127.0.0.1",
            metrics_port=None if self._options.metrics_port is None else 0,
        )
        worker.reports, theirs = self._context.Pipe(duplex=False)
        worker.process = self._context.Process(
            target=run_worker, args=(worker.number, self._settings, options, theirs), name=f"rf-worker-{worker.number}"
        )
        with (
            _ignoring(signal.SIGINT),
            _ignoring(signal.SIGHUP),
        ):  # inherited: a terminal sends them to all of its processes
            worker.process.start()
        theirs.close()
        worker.started, worker.ready = monotonic(), None

    def _wait(self) -> None:
        """Wait for a report, an end, a signal, or the time to start a worker again."""
        waiting: dict[Any, _Worker] = {}
        for worker in self._workers:
            if worker.process is not None:
                # Its pipe closes a moment before the process has ended: the sentinel has to be watched for longer.
                waiting[worker.process.sentinel] = worker
                if worker.reports is not None:
                    waiting[worker.reports] = worker
        due = min(
            (worker.start_at for worker in self._workers if worker.process is None and self._serving), default=_NEVER
        )
        timeout = None if due == _NEVER else max(0.0, due - monotonic())
        for something in connection.wait([*waiting, self._wake], timeout):
            if something == self._wake:
                self._stopping = bool(os.read(self._wake, 512))
            elif isinstance(something, Connection):
                self._hear(waiting[something])
        for worker in self._workers:
            if worker.process is not None and worker.process.exitcode is not None:
                self._ended(worker)

    def _hear(self, worker: _Worker) -> None:
        assert worker.reports is not None
        try:
            kind, *rest = worker.reports.recv()
        except EOFError:
            worker.reports.close()
            worker.reports = None
            return
        if kind == READY:
            (worker.ready,) = rest
            pid = worker.process.pid if worker.process is not None else None
            self._log.info("worker ready", worker=worker.number, pid=pid, load_seconds=worker.ready["load_seconds"])
            self.metrics.workers.set(sum(each.ready is not None for each in self._workers))
        else:
            message, code = rest
            if not self._serving:
                raise (UsageError if code == UsageError.exit_code else RunError)(message)
            self._log.error("worker cannot start", worker=worker.number, error=message)

    def _ended(self, worker: _Worker) -> None:
        assert worker.process is not None
        code = worker.process.exitcode
        if worker.reports is not None and worker.reports.poll():
            self._hear(worker)
        if not self._stopping and not self._serving:
            raise RunError(_ended_early(worker.number, code))
        self._forget(worker)
        if self._stopping:
            return
        if monotonic() - worker.started > _HEALTHY_SECONDS:
            worker.pause = _FIRST_PAUSE
        self._log.error("worker ended", worker=worker.number, exit_code=code, again_in_seconds=worker.pause)
        self.metrics.restarts.inc()
        worker.start_at = monotonic() + worker.pause
        worker.pause = min(2 * worker.pause, _LONGEST_PAUSE)

    def _forget(self, worker: _Worker) -> None:
        if worker.process is not None:
            worker.process.close()
        if worker.reports is not None:
            worker.reports.close()
        worker.process = worker.reports = worker.ready = None
        self.metrics.workers.set(sum(each.ready is not None for each in self._workers))

    def _say_serving(self, details: dict[str, Any]) -> None:
        if self._serving or any(worker.ready is None for worker in self._workers):
            return
        self._serving = True
        first = dict(self._workers[0].ready or {})
        first.pop("metrics_port", None)
        slowest = max((worker.ready or {})["load_seconds"] for worker in self._workers)
        structlog.get_logger(START_LOG).info(
            "serving", **{**first, "load_seconds": slowest}, workers=len(self._workers), **details
        )

    def _end(self) -> int:
        """Drain all workers, and wait for them."""
        self._log.info("draining", seconds=self._options.drain_seconds, workers=len(self._workers))
        for worker in self._workers:
            if worker.process is not None:
                worker.process.terminate()
        deadline = monotonic() + self._options.drain_seconds + _ENDING_SECONDS
        finished = True
        for worker in self._workers:
            if worker.process is None:
                continue
            self._join(worker.process, deadline)
            # One that is still loading has answered nothing.
            finished = finished and (worker.ready is None or worker.process.exitcode == 0)
            self._kill(worker)
        (self._log.info if finished else self._log.warning)("stopped", all_calls_finished=finished)
        sys.stdout.flush()
        return 0 if finished else 1

    def _join(self, process: SpawnProcess, deadline: float) -> None:
        """Wait for a worker to end, and hand further signals on to all."""
        while (left := deadline - monotonic()) > 0 and process.sentinel not in (
            found := connection.wait([process.sentinel, self._wake], left)
        ):
            if self._wake in found and os.read(self._wake, 512):
                for worker in self._workers:
                    if worker.process is not None:
                        worker.process.terminate()
        process.join(max(0.0, deadline - monotonic()))  # the sentinel is ready a moment before

    def _kill(self, worker: _Worker) -> None:
        if worker.process is not None:
            worker.process.kill()
            worker.process.join()
            self._forget(worker)

    def _metrics_ports(self) -> dict[int, int]:
        ready = {worker.number: worker.ready for worker in self._workers if worker.ready is not None}
        return {number: details["metrics_port"] for number, details in ready.items() if "metrics_port" in details}


def _ended_early(number: int, code: int | None) -> str:
    """Return the error of a worker that ended before all of them could serve."""
    if code is None or code >= 0:
        return f"worker {number} ended with exit code {code} before all workers could serve; the log above says why"
    name = signal.Signals(-code).name
    remedy = (
        "if nobody did that, memory ran out: try fewer --workers" if name == "SIGKILL" else "that is a bug; report it"
    )
    return f"worker {number} was ended by {name} before all workers could serve; {remedy}"


@contextmanager
def _ignoring(number: signal.Signals) -> Iterator[None]:
    handler = signal.signal(number, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(number, handler)


@contextmanager
def _wakes_at_signals() -> Iterator[int]:
    """Give a file descriptor that can be read when SIGTERM, SIGINT or SIGHUP has come; under ``nohup`` SIGHUP stays ignored."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    before = signal.set_wakeup_fd(writing)
    handlers = {
        number: signal.signal(number, lambda *_: None)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN
    }
    try:
        yield reading
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        os.close(reading)
        os.close(writing)


_WAIT_SECONDS = 2.0


class WorkerMetrics(Collector):
    """Asks every worker whenever it is asked."""

    def __init__(self, ports: Callable[[], Mapping[int, int]]) -> None:
        """Prepare.

        Args:
            ports: where the metrics of each worker are, on this machine, by the worker's number.
        """
        self._ports = ports
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self.workers = Gauge("rf_workers", "Workers that answer.", registry=self.registry)
        self.restarts = Counter(
            "rf_worker_restarts", "Workers that ended and were started again.", registry=self.registry
        )

    def describe(self) -> list[Metric]:
        """Name nothing in advance: no worker answers yet when this is registered."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the families of all workers, merged; a worker that does not answer is left out."""
        families: dict[str, Metric] = {}
        for worker, port in sorted(self._ports().items()):
            try:
                text = _page(port)
            except (OSError, HTTPException):
                continue
            for family in text_string_to_metric_families(text):
                merged = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                for sample in family.samples:
                    merged.samples.append(sample._replace(labels={**sample.labels, "worker": str(worker)}))
        yield from families.values()


def _page(port: int) -> str:
    """Read the metrics page of a worker, never through a proxy."""
    with closing(HTTPConnection("127.0.0.1", port, timeout=_WAIT_SECONDS)) as connection:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
