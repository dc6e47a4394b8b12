import asyncio
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, partial
from importlib.util import find_spec
from pathlib import Path
from threading import Lock, Thread
from time import sleep
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import structlog
from structlog.testing import LogCapture

from rf_platform.settings import Settings, get_settings
from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub

# What imports TorchRec or Feast is imported inside the fixtures, after the filters below are in place.
if TYPE_CHECKING:
    from rf_platform.dataset import Dataset
    from rf_platform.registry import Registry
    from rf_serving.retrieval.retriever import Retriever
    from rf_serving.server.admission import Admission
    from rf_serving.server.metrics import ServerMetrics
    from rf_serving.server.server import RetrievalServer
    from rf_serving.server.wiring import ServerComponents
    from rf_training.model.retrievalformer import RetrievalFormer

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"
USERS, ITEMS = 30, 60
MAX_HISTORY = 8
NO_HISTORY = 31
"""A user with a profile and no interactions."""
UTC_US = pa.timestamp("us", tz="UTC")
OTHERS_WARNINGS = [
    r"ignore:[\s\S]*fbgemm_gpu:DeprecationWarning",
    r"ignore:[\s\S]*was deleted while still open:ResourceWarning",  # Feast leaves its PostgreSQL connection to the collector
]


def pytest_configure(config: pytest.Config) -> None:
    for line in OTHERS_WARNINGS:
        config.addinivalue_line("filterwarnings", line)


@pytest.fixture(scope="session", autouse=True)
def one_loop() -> None:
    """Have gRPC's poller started before the first test that uses it, in whatever loop."""
    server_loop()


@pytest.fixture(scope="session", autouse=True)
def logs() -> LogCapture:
    """What servers in this process log."""
    capture = LogCapture()
    structlog.configure(processors=[capture])
    return capture


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small import: 30 users with 1 to 20 interactions, 60 items, missing values here and there."""
    home = tmp_path_factory.mktemp("serving")
    directory = home / "tables"
    directory.mkdir()
    rng = np.random.default_rng(7)
    start = datetime(2024, 1, 1, tzinfo=UTC)
    genres = ["Comedy", "Drama", "Horror", "Sci-Fi", "War"]
    words = ["night", "day", "return", "king", "star", "love", "city"]
    events = []
    for user in range(1, USERS + 1):
        when = start + timedelta(hours=int(rng.integers(100)))
        for item in rng.permutation(ITEMS)[: 1 + user * 19 // USERS] + 1:
            when += timedelta(minutes=int(rng.integers(0, 300)))  # equal times happen
            events.append((user, int(item), when))
    missing = rng.random(len(events)) < 0.2
    one_epoch = [datetime(1970, 1, 1, tzinfo=UTC)]
    pq.write_table(
        pa.table(
            {
                "user_id": [e[0] for e in events],
                "item_id": [e[1] for e in events],
                "event_timestamp": pa.array([e[2] for e in events], UTC_US),
                "event_type": ["rating"] * len(events),
                "rating": pa.array([None if m else float(rng.integers(1, 6)) for m in missing.tolist()], pa.float32()),
                "hour": pa.array([None if m else e[2].hour for e, m in zip(events, missing.tolist(), strict=True)]),
                "weekday": [e[2].weekday() for e in events],
                "input_order": list(range(len(events))),
            }
        ),
        directory / "interactions.parquet",
    )
    pq.write_table(
        pa.table(
            {
                "item_id": list(range(1, ITEMS + 1)),
                "event_timestamp": pa.array(one_epoch * ITEMS, UTC_US),
                "title": [f"Movie {i}" for i in range(1, ITEMS + 1)],
                "genres": [rng.choice(genres, rng.integers(1, 4), replace=False).tolist() for _ in range(ITEMS)],
                "release_year": [int(y) for y in rng.integers(1950, 1999, ITEMS)],
                "title_words": [rng.choice(words, rng.integers(1, 4), replace=False).tolist() for _ in range(ITEMS)],
            }
        ),
        directory / "items.parquet",
    )
    people = list(range(1, NO_HISTORY + 1))
    pq.write_table(
        pa.table(
            {
                "user_id": people,
                "event_timestamp": pa.array(one_epoch * len(people), UTC_US),
                "gender": [str(g) for g in rng.choice(["M", "F"], len(people))],
                "age_group": [int(a) for a in rng.choice([1, 18, 25, 35], len(people))],
                "occupation": [str(o) for o in rng.choice(["artist", "doctor", "student"], len(people))],
                "zip_area": [None if user == 3 else str(user % 10) for user in people],
            }
        ),
        directory / "users.parquet",
    )
    record = {"name": "tiny", "feature_repo": "movielens", "time": "observed"}
    (directory / "import.json").write_text(json.dumps(record))
    return directory


@pytest.fixture(scope="session")
def settings(tables: Path) -> Settings:
    """The workspace, with features registered and loaded into the SQLite online store."""
    from rf_platform.features.apply import apply_definitions
    from rf_platform.features.materialize import materialize

    settings = Settings(home=tables.parent, feature_repo=REPOSITORY, online_store_url=None)
    apply_definitions(settings)
    materialize(settings)
    return settings


@pytest.fixture(scope="session")
def registry(settings: Settings) -> "Registry":
    """The workspace's registry."""
    from rf_platform.registry import Registry

    return Registry.of(settings)


@pytest.fixture(scope="session")
def dataset(settings: Settings, registry: "Registry") -> "Dataset":
    """A dataset version of the workspace."""
    from rf_platform.dataset.build import build_dataset
    from rf_platform.features.read import read_definitions
    from rf_platform.features.store import open_store

    definitions = read_definitions(open_store(settings), settings.feature_service)
    interactions = settings.workspace.tables / "interactions.parquet"
    dataset, _ = build_dataset(definitions, interactions, settings.workspace.datasets, "tiny")
    dataset.record(registry)
    return dataset


@pytest.fixture(scope="session")
def model(dataset: "Dataset") -> "RetrievalFormer":
    """A model with random weights, none of them where training would start: every feature shows in the answer."""
    import torch

    from rf_training.model.config import ModelConfig
    from rf_training.model.retrievalformer import RetrievalFormer

    torch.manual_seed(0)
    config = ModelConfig(dim=16, layers=2, heads=2, max_history=MAX_HISTORY)
    model = RetrievalFormer(config, dataset.encoder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.2)
        model.interaction_gate.fill_(0.7)
    return model.eval()


@pytest.fixture(scope="session")
def run(settings: Settings, registry: "Registry", dataset: "Dataset", model: "RetrievalFormer") -> str:
    """A completed training run with that model."""
    from rf_training.model.storage import save_model

    path = settings.workspace.runs / "tiny-run"
    save_model(path / "best", model)
    metrics = {"recall@20": 0.5, "coverage": float("nan")}
    (path / "metrics.json").write_text(json.dumps(metrics))
    registry.start_run("tiny-run", dataset=dataset.name, recipe="tiny", config={}, path=path)
    registry.finish_run("tiny-run", metrics)
    return "tiny-run"


@pytest.fixture(scope="session")
def home(settings: Settings, registry: "Registry", run: str) -> Path:
    """The workspace with a promoted bundle, ``tiny-run-1``; tests that change it take :func:`home_copy`."""
    from rf_platform.registry import promote
    from rf_serving.bundle.build import build_bundle

    built = build_bundle(registry, settings.workspace.bundles, run)
    promote(registry, built.record.name)
    return settings.workspace.root


@pytest.fixture(scope="session")
def copy_workspace() -> Callable[[Path, Path], Path]:
    """Copies a workspace by a process of its own.

    The locks that SQLite has on a file end when the process closes it anywhere, even after copying it. A server that starts on
    the original then takes itself for the first, and cuts off what is mapped here.
    """

    def copied(source: Path, target: Path) -> Path:
        subprocess.run(["cp", "-RP", source, target], check=True)
        return target

    return copied


@pytest.fixture
def home_copy(home: Path, tmp_path: Path, copy_workspace: Callable[[Path, Path], Path]) -> Path:
    """A copy of the workspace for one test."""
    return copy_workspace(home, tmp_path / "home")


@dataclass
class RunningServer:
    """A server in a thread of this process."""

    server: "RetrievalServer"
    parts: "ServerComponents"
    retriever: "Retriever"
    metrics: "ServerMetrics"
    admission: "Admission"
    channel: grpc.Channel
    loop: asyncio.AbstractEventLoop

    @property
    def stub(self) -> Any:
        """The service's client."""
        return RetrievalServiceStub(self.channel)  # type: ignore[no-untyped-call]

    def in_loop(self, coroutine: Any) -> Future[Any]:
        """Run a coroutine in the server's event loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop)


@cache
def server_loop() -> asyncio.AbstractEventLoop:
    """The event loop of all servers in this process, in a thread of its own.

    It is never closed, and gRPC is kept awake from here on: its poller may still hand over what happened to a server's last
    calls when their loop is gone, and has a data race where it ends and starts anew with every server (grpc/grpc 43364).
    """
    loop = asyncio.new_event_loop()
    Thread(target=loop.run_forever, name="servers", daemon=True).start()

    async def stay_awake() -> None:
        grpc.aio.init_grpc_aio()  # type: ignore[attr-defined]

    asyncio.run_coroutine_threadsafe(stay_awake(), loop).result()
    return loop


@contextmanager
def running_server(
    settings: Settings, bundle: str | None = None, max_k: int = 100, tracing: Any = None, **options: Any
) -> Iterator[RunningServer]:
    """Serve a workspace on a free port; ``options`` are fields of :class:`ServeOptions`."""
    from rf_serving.server.admission import Admission
    from rf_serving.server.metrics import ServerMetrics
    from rf_serving.server.options import Limits, ServeOptions
    from rf_serving.server.server import RetrievalServer
    from rf_serving.server.tracing import NO_TRACING
    from rf_serving.server.wiring import ServerComponents, build_components

    loop = server_loop()

    def wait(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(60)

    async def start(parts: ServerComponents) -> RetrievalServer:
        server = RetrievalServer(serving, metrics, admission, tracing or NO_TRACING)
        await server.start(parts)
        return server

    metrics = ServerMetrics()
    given: dict[str, Any] = {
        # Long histories for slow answers, and time for a store on a busy machine.
        "limits": Limits(max_k=max_k, max_session=100_000),
        "fetch_seconds": 30.0,
        "queue_seconds": 60.0,
        "deadline_seconds": 60.0,
        **options,
    }
    serving = ServeOptions(port=0, bundle=bundle, **given)
    admission = Admission(serving.max_in_flight, serving.queue_seconds)
    with build_components(settings, metrics, serving, admission) as parts:
        server = wait(start(parts))
        try:
            with grpc.insecure_channel(server.address) as channel:
                yield RunningServer(server, parts, parts.retriever, metrics, admission, channel, loop)
        finally:
            wait(server.drain(5))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that are marked so with each of the server's fronts."""
    if metafunc.definition.get_closest_marker("both_fronts") and "server_front" in metafunc.fixturenames:
        metafunc.parametrize("server_front", ["grpc", "http2"], indirect=True, scope="session")


@pytest.fixture(scope="session")
def server_front(request: pytest.FixtureRequest) -> str:
    """The front of servers in this test: ``--front``."""
    return str(getattr(request, "param", os.environ.get("RF_TEST_FRONT", "grpc")))


@pytest.fixture(scope="session")
def start_server(server_front: str) -> Callable[..., Any]:
    """:func:`running_server`, for tests that need one of their own."""
    return partial(running_server, front=server_front)


@pytest.fixture(scope="session")
def server(settings: Settings, home: Path, start_server: Callable[..., Any]) -> Iterator[RunningServer]:
    """A server on the promoted bundle, shared by all tests that leave it as it is."""
    with start_server(settings) as running:
        yield running


@pytest.fixture
def stub(server: RunningServer) -> Any:
    """A client of the shared server."""
    return server.stub


@pytest.fixture
def in_workspace(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the workspace the one that commands work in."""
    monkeypatch.setenv("RF_HOME", str(home))
    monkeypatch.setenv("RF_FEATURE_REPO", str(REPOSITORY))
    get_settings.cache_clear()
    yield home
    get_settings.cache_clear()


class MilvusProcess:
    """Milvus's embedded form as a server: a process of its own that speaks the protocol of a cluster."""

    def __init__(self, directory: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._directory, self._process = directory, None
        self.url = f"http://127.0.0.1:{self._port}"

    _process: subprocess.Popen[bytes] | None

    def start(self) -> None:
        """Start it on the same data, and wait until it answers."""
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self._directory)]
        with (self._directory.parent / "milvus.log").open("ab") as said:
            self._process = subprocess.Popen([*command, "--port", str(self._port)], stdout=said, stderr=said)
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 1):
                break
            assert self._process.poll() is None, (self._directory.parent / "milvus.log").read_text()[-2000:]
            sleep(0.1)
        self._await_answer()

    def _await_answer(self) -> None:
        """Wait for an answer by its client, which leaves a server alone for a while that was away."""
        from pymilvus import MilvusClient
        from pymilvus.exceptions import MilvusException

        for _ in range(60):
            with suppress(MilvusException):
                client = MilvusClient(uri=self.url, timeout=2.0)
                client.list_collections()
                client.close()
                return
            sleep(0.5)
        raise AssertionError("Milvus does not answer")

    def kill(self) -> None:
        """End it without a warning."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@pytest.fixture(scope="session")
def milvus_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MilvusProcess]:
    """A Milvus that tests share."""
    for module in ("pymilvus", "milvus_lite"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: pip install 'retrievalformer[milvus]' milvus-lite")
    process = MilvusProcess(tmp_path_factory.mktemp("milvus") / "data")
    process.start()
    yield process
    process.kill()


@pytest.fixture
def milvus(milvus_process: MilvusProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[MilvusProcess]:
    """``RF_INDEX_URL`` names a Milvus for the length of a test."""
    if milvus_process._process is None:
        milvus_process.start()
    monkeypatch.setenv("RF_INDEX_URL", milvus_process.url)
    # A cluster answers in milliseconds; the embedded form on a busy machine does not.
    monkeypatch.setattr("rf_serving.index.milvus_server.SEARCH_SECONDS", 30.0)
    get_settings.cache_clear()
    yield milvus_process
    get_settings.cache_clear()


class FakeGpu:
    """FAISS's GPU entry points over CPU indexes, with the limits, the messages and the one-search-at-a-time of the real ones."""

    def __init__(self) -> None:
        self.scratch: list[int] = []
        """Scratch memory of every set of resources that was made."""
        self.room = 1 << 40
        """Bytes that an index copied there may take."""
        self.asked: list[int] = []
        """Results asked for by every search."""
        self.overlapped = False
        self._busy = Lock()

    def resources(self) -> Any:
        """Stand for ``faiss.StandardGpuResources``."""
        return SimpleNamespace(setTempMemory=self.scratch.append)

    def copy(self, resources: Any, number: int, index: Any) -> Any:
        """Stand for ``faiss.index_cpu_to_gpu``."""
        if index.ntotal * index.d * 4 > self.room:
            raise RuntimeError(
                "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const faiss::gpu::AllocRequest&) at "
                "/project/faiss/gpu/StandardGpuResources.cpp:530: Error: 'err == cudaSuccess' failed: StandardGpuResources: "
                "alloc fail type FlatData dev 0 space Device stream 0x55 size 640000 bytes (cudaMalloc error out of memory [2])"
            )
        return SimpleNamespace(d=index.d, add=index.add, search=partial(self._search, index))

    def _search(self, index: Any, queries: Any, k: int, params: Any = None) -> Any:
        self.asked.append(k)
        if max(k, getattr(params, "nprobe", 0)) > 2048:
            raise RuntimeError(
                "Error in void faiss::gpu::validateKSelect(int) at /project/faiss/GpuUtils.cu:31: Error: 'k > 0 && k <= "
                f"getMaxKSelection()' failed: GPU index only supports min/max-K selection up to 2048 (requested {k})"
            )
        alone = self._busy.acquire(blocking=False)
        self.overlapped |= not alone
        try:
            sleep(0.005)
            return index.search(queries, k, params=params)
        finally:
            if alone:
                self._busy.release()


@pytest.fixture
def fake_gpu(monkeypatch: pytest.MonkeyPatch) -> FakeGpu:
    """A FAISS that sees two devices."""
    from rf_serving.index import device
    from rf_serving.index.faiss_library import faiss

    gpu = FakeGpu()
    monkeypatch.setattr(device, "_devices", {})
    for name, value in {
        "StandardGpuResources": gpu.resources,
        "index_cpu_to_gpu": gpu.copy,
        "get_num_gpus": lambda: 2,
    }.items():
        monkeypatch.setattr(faiss, name, value, raising=False)
    return gpu
