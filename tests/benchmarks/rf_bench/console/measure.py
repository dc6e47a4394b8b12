"""Times of pages, and of requests beside them."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from threading import Event, Thread
from time import perf_counter
from urllib.parse import quote, urlsplit

import numpy as np
import psutil

from rf_platform.cli.console import track
from rf_platform.errors import RunError
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.background_server import BackgroundServer
from rf_serving.client import RetrievalClient

_COMMAND = "from rf_platform.cli import main; main()"
_ROUNDS, _REQUESTS = 5, 200
_PAUSE_SECONDS = 0.2
"""Between two pages of the busy browser: five a second are more than a person loads."""


@dataclass(frozen=True, kw_only=True)
class PageTime:
    """One page; milliseconds until it was there."""

    page: str
    p50_ms: float
    p95_ms: float
    cpu_ms: float
    """CPU of the console."""
    kilobytes: float


@dataclass(frozen=True, kw_only=True)
class AnswerTime:
    """Requests to the server, one at a time."""

    name: str
    p50_ms: float
    p99_ms: float
    page_cpu_ms: float
    """CPU of the console for each page that was loaded meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """All that was measured."""

    items: int
    pages: Sequence[PageTime]
    answers: Sequence[AnswerTime]
    ratio: float
    """Median of requests beside a busy console, relative to those beside an idle one."""


class Browser:
    """Loads pages over one connection."""

    def __init__(self, url: str) -> None:
        self._connection = HTTPConnection(urlsplit(url).netloc, timeout=120)

    def load(self, path: str) -> bytes:
        """Return a page.

        Raises:
            RunError: it is none.
        """
        self._connection.request("GET", path)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise RunError(f"the console answers {path} with {answer.status}: {body[-300:]!r}")
        return body


@contextmanager
def running_console(settings: Settings, address: str) -> Iterator[tuple[str, psutil.Process]]:
    """Run a console beside a server; gives its URL and its process."""
    command = [
        sys.executable,
        "-c",
        _COMMAND,
        "--home",
        str(settings.home),
        "console",
        "--port",
        "0",
        "--address",
        address,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if "http" not in line:
            raise RunError(f"the console did not start: {line!r}")
        yield line.split()[-1].strip(), psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


def measure(settings: Settings, loads: int) -> Found:
    """Time the pages on a workspace with a promoted bundle.

    Raises:
        RunError: nothing is promoted, or a process does not start.
    """
    with (
        BackgroundServer(settings.home) as server,
        running_console(settings, server.address) as (url, process),
        RetrievalClient(server.address) as client,
    ):
        ids = [item for item, _ in zip(client.item_ids(), range(100), strict=False)]
        items, user = int(server.serving["items"]), _some_user(settings)
        browser = Browser(url)
        pages = _pages(settings, ids[0], user)
        _wait(browser)
        browser.load(f"/user?id={quote(user)}")  # the console has imported what it needs by then
        with track("pages", len(pages)) as progress:
            times = []
            for page in pages:
                times.append(_time(browser, page, loads, process))
                progress.advance(note=page)
        answers, ratio = _beside(client, url, process, user, [page for page in pages if not page.startswith("/user")])
    return Found(items=items, pages=times, answers=answers, ratio=ratio)


def _pages(settings: Settings, item: str, user: str) -> list[str]:
    return [
        "/",
        "/catalog",
        f"/catalog?q={quote(item[:1])}",
        "/catalog?q=the",
        f"/item?id={quote(item)}",
        f"/item/audience?id={quote(item)}",
        f"/user?id={quote(user)}",
        f"/user?id={quote(user)}&why=yes",
        f"/user?id={quote(user)}&drop=0",
        "/policies",
        "/audit",
    ]


def _some_user(settings: Settings) -> str:
    import pyarrow.parquet as pq

    table = pq.ParquetFile(settings.workspace.tables / "users.parquet")
    key = next(name for name in table.schema_arrow.names if name != "event_timestamp")
    return str(next(table.iter_batches(1, columns=[key]))[0][0].as_py())


def _wait(browser: Browser) -> None:
    """Wait for the index of the catalog."""
    until = perf_counter() + 600
    while True:
        try:
            browser.load("/catalog")
        except RunError:
            if perf_counter() > until:
                raise
        else:
            return


def _time(browser: Browser, page: str, loads: int, process: psutil.Process) -> PageTime:
    size, before = len(browser.load(page)), sum(process.cpu_times()[:2])
    times = []
    for _ in range(loads):
        start = perf_counter()
        browser.load(page)
        times.append(perf_counter() - start)
    p50, p95 = np.quantile(times, [0.5, 0.95]) * 1000
    cpu = (sum(process.cpu_times()[:2]) - before) * 1000 / loads
    return PageTime(page=page, p50_ms=float(p50), p95_ms=float(p95), cpu_ms=cpu, kilobytes=size / 1000)


def _beside(
    client: RetrievalClient, url: str, process: psutil.Process, user: str, pages: Sequence[str]
) -> tuple[list[AnswerTime], float]:
    """Time requests beside an idle and a busy console, in turns."""
    times: dict[str, list[float]] = {"idle": [], "busy": []}
    loaded, before = 0, sum(process.cpu_times()[:2])
    for turn in range(2 * _ROUNDS):
        kind, stop = ("idle", "busy")[turn % 2], Event()
        counts = [0]
        thread = Thread(target=_browse, args=(url, pages, stop, counts))
        if kind == "busy":
            thread.start()
        for _ in range(_REQUESTS):
            start = perf_counter()
            client.retrieve(RetrieveRequest(user_id=user, k=20, exclude_seen=True))
            times[kind].append(perf_counter() - start)
        stop.set()
        if kind == "busy":
            thread.join()
            loaded += counts[0]
    cpu = (sum(process.cpu_times()[:2]) - before) * 1000 / max(loaded, 1)
    answers = []
    for kind, each in times.items():
        p50, p99 = (np.quantile(each, [0.5, 0.99]) * 1000).tolist()
        spent = cpu if kind == "busy" else 0.0
        answers.append(AnswerTime(name=f"beside a console, {kind}", p50_ms=p50, p99_ms=p99, page_cpu_ms=spent))
    return answers, answers[1].p50_ms / answers[0].p50_ms


def _browse(url: str, pages: Sequence[str], stop: Event, counts: list[int]) -> None:
    browser = Browser(url)
    while True:
        for page in pages:
            browser.load(page)
            counts[0] += 1
            if stop.wait(_PAUSE_SECONDS):
                return
