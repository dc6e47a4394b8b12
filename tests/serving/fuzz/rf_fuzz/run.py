"""A run: a server on a copy of the workspace, requests, and how it is afterwards."""

import asyncio
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import grpc
import psutil
import pyarrow.parquet as pq
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rf_fuzz.json_requests import json_requests
from rf_fuzz.json_verdict import ask_all_json
from rf_fuzz.requests import requests
from rf_fuzz.verdict import Verdict, ask_all
from rf_fuzz.words import Words
from rf_platform.bundle import files
from rf_platform.cli.console import track
from rf_platform.errors import ConfigError, NotFoundError, RunError
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_serving.background_server import BackgroundServer

_NEEDED = ("registry.db", "registry.db-wal", "tables", "feast", "bundles", "events")
_SEEN_ITEMS = 50
_MIB = 2**20


def run(settings: Settings, count: int, http_count: int, seed: int, together: int) -> dict[str, Any]:
    """Send the requests and return everything as plain values.

    Args:
        settings: of the workspace that is copied.
        count: requests over gRPC.
        http_count: requests over HTTP.
        seed: of all of them.
        together: requests at a time.

    Raises:
        ConfigError: the workspace is kept in databases, of which there is no copy.
        NotFoundError: no bundle is promoted.
        RunError: the server does not start, or is gone afterwards.
    """
    for variable, value in (
        ("RF_REGISTRY_URL", settings.registry_url),
        ("RF_ONLINE_STORE_URL", settings.online_store_url),
    ):
        if value is not None:
            raise ConfigError(
                f"{variable} is set, and what some of the requests record would end up there; unset it: the fuzzer runs on a "
                f"copy of the workspace's files"
            )
    words = _words(settings)
    with TemporaryDirectory(prefix="rf-fuzz-") as directory:
        home = Path(directory) / "home"
        home.mkdir()
        for name in _NEEDED:
            source = settings.workspace.root / name
            if source.is_dir():
                shutil.copytree(source, home / name)
            elif source.exists():
                shutil.copy2(source, home / name)
        environment = {} if settings.feature_repo is None else {"RF_FEATURE_REPO": str(settings.feature_repo)}
        with BackgroundServer(home, ["--fetch-ms", "1000", "--http-port", "0"], environment) as server:
            process = psutil.Process(server.process.pid)
            before, begin = process.memory_info().rss, perf_counter()
            with track("requests", count + http_count) as tracker:
                verdict: Verdict = asyncio.run(
                    ask_all(server.address, requests(seed, count, words), together, tracker.advance)
                )
                http = ("127.0.0.1", int(server.serving["http_port"]))
                verdict += asyncio.run(
                    ask_all_json(http, json_requests(seed, http_count, words), together, tracker.advance)
                )
            seconds = perf_counter() - begin
            if server.process.poll() is not None:
                said = "\n".join(list(server.output)[-20:])
                raise RunError(f"the server ended with exit code {server.process.returncode}:\n{said}")
            with grpc.insecure_channel(server.address) as channel:
                health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            if health.status != health_pb2.HealthCheckResponse.SERVING:
                raise RunError("the server does not report SERVING any more")
            memory = {"before": before / _MIB, "after": process.memory_info().rss / _MIB}
    return {**verdict.as_json(), "seed": seed, "seconds": seconds, "server_memory_mib": memory}


def _words(settings: Settings) -> Words:
    """Return what the promoted bundle knows."""
    registry = Registry.of(settings)
    record = registry.active_bundle()
    if record is None:
        raise NotFoundError("no bundle is promoted yet; choose one with `rf promote NAME`, or run `rf demo` first")
    table = pq.read_table(record.path / files.ITEMS).slice(0, _SEEN_ITEMS)
    columns = [name for name in table.column_names if "__" in name]
    items = [str(item) for item in table[0].to_pylist()]
    return Words(items=items, features=(*columns, *Words().features))
