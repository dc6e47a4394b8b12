"""Bundles change while requests go on: no error, no mixed reply, nothing left behind, and nothing unfit is served."""

import os
import shutil
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.request import urlopen

import grpc
import pytest
from structlog.testing import LogCapture

from rf_platform.settings import Settings
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.server.metrics import exposed

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"
SWAPS = {"grpc": 100, "http2": 25}
USERS = [str(user) for user in range(1, 31)]


def deployment(running: Any) -> GetDeploymentResponse:
    stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
    response: GetDeploymentResponse = stub.GetDeployment(GetDeploymentRequest())
    return response


def answers(running: Any) -> dict[str, tuple[tuple[str, ...], tuple[float, ...]]]:
    """What the active bundle answers to everybody, beside its name."""
    found = {}
    for user in USERS:
        reply = running.stub.Retrieve(RetrieveRequest(user_id=user, k=10))
        scores = tuple(round(item.score, 4) for item in reply.items)
        found[reply.bundle + "/" + user] = (tuple(item.item_id for item in reply.items), scores)
    return found


class Clients:
    """Threads that ask without pause and hold every reply against what its bundle has to answer."""

    def __init__(self, address: str, expected: dict[str, Any]) -> None:
        self.address, self.expected = address, expected
        self.wrong: list[str] = []
        self.replies: Counter[str] = Counter()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(n,)) for n in range(2)]

    def __enter__(self) -> "Clients":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, offset: int) -> None:
        from rf_protos.v1.retrieval_pb2_grpc import RetrievalServiceStub

        with grpc.insecure_channel(self.address) as channel:
            stub = RetrievalServiceStub(channel)  # type: ignore[no-untyped-call]
            turn = offset
            while not self._stop.is_set():
                user = USERS[turn % len(USERS)]
                turn += 7
                # Clients and server share one Python here.
                time.sleep(0.002)
                try:
                    reply = stub.Retrieve(RetrieveRequest(user_id=user, k=10), timeout=20)
                except grpc.RpcError as error:
                    self.wrong.append(f"{user}: {error}")
                    continue
                items, scores = self.expected[f"{reply.bundle}/{user}"]
                same = tuple(item.item_id for item in reply.items) == items and all(
                    abs(item.score - score) < 2e-4 for item, score in zip(reply.items, scores, strict=True)
                )
                self.replies[reply.bundle] += 1
                if not same or reply.degraded:
                    self.wrong.append(f"{user}: {reply}")


@pytest.mark.both_fronts
def test_many_swaps_under_load(
    server_front: str,
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As urgent as the answers: on a machine with much to do, so many loads would take forever otherwise.
    monkeypatch.setattr("rf_serving.threads.NICE", 0)
    with start_server(pair, poll_seconds=0.02, fetch_seconds=30) as running:
        serving = running.parts.deployments
        expected = answers(running)
        pair_registry.promote(SECOND)
        wait_until(lambda: serving.serving.active.name == SECOND)
        expected |= answers(running)
        assert len(set(expected.values())) > len(USERS)  # the two bundles answer differently

        bundles = []
        handles = threads = 0
        with Clients(running.server.address, expected) as clients:
            for swap in range(SWAPS[server_front]):
                name = (FIRST, SECOND)[swap % 2]
                pair_registry.promote(name)
                wait_until(lambda name=name: serving.serving.active.name == name, 60)
                bundles.append(weakref.ref(running.retriever.bundle))
                if swap == 10:
                    handles, threads = len(os.listdir("/proc/self/fd")), threading.active_count()
            later = len(os.listdir("/proc/self/fd"))
            assert threading.active_count() <= threads + 2
        assert clients.wrong == []
        assert min(clients.replies[FIRST], clients.replies[SECOND]) > 20
        # Some more where more bundles happen to be open: each maps a few files. One left behind by each swap would be ninety.
        assert later <= handles + 25
        assert deployment(running).swaps == SWAPS[server_front] + 2
        # Freed at once, not by the next collection: memory and mapped files would add up until then.
        assert sum(bundle() is not None for bundle in bundles) <= 3


def test_a_reply_of_two_bundles_would_be_noticed(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check of the test above can fail: here replies name another bundle than the one that answered."""
    with start_server(pair) as running:
        expected = answers(running)
        swapped = {key.replace(FIRST, SECOND): value for key, value in expected.items()}
        wrong = {key: (tuple(reversed(items)), scores) for key, (items, scores) in expected.items()}
        with Clients(running.server.address, swapped | wrong) as clients:
            threading.Event().wait(0.5)
        assert clients.wrong


def damage(settings: Settings, name: str) -> Path:
    path = settings.workspace.bundles / name / "vectors.npy"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def test_a_damaged_bundle_is_refused_and_the_old_one_goes_on(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    logs: LogCapture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rf_serving.deployment.deployments._RETRY_SECONDS", 0.2)
    kept = shutil.copy(pair.workspace.bundles / SECOND / "vectors.npy", pair.home / "kept.npy")
    path = damage(pair, SECOND)
    with start_server(pair, poll_seconds=0.02) as running:
        pair_registry.promote(SECOND)  # checked when it was promoted, damaged afterwards
        wait_until(lambda: deployment(running).refused)
        told = deployment(running)
        assert "vectors.npy (checksum differs)" in told.refused
        assert (told.active.name, told.swaps) == (FIRST, 1)
        assert running.stub.Retrieve(RetrieveRequest(user_id="17", k=3)).bundle == FIRST
        value = running.metrics.registry.get_sample_value
        assert value("rf_bundle_refused") == 1
        assert value("rf_bundle_refusals_total") >= 1
        assert any(e["event"] == "bundle refused" and e["bundle"] == SECOND for e in logs.entries)
        shutil.copy(kept, path)  # restored from a copy: tried again without a command
        wait_until(lambda: deployment(running).active.name == SECOND)
        assert deployment(running).refused == ""
        assert value("rf_bundle_refused") == 0


def test_going_back_ends_a_refusal(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    damage(pair, SECOND)
    with start_server(pair, poll_seconds=0.02) as running:
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).refused)
        pair_registry.rollback()
        wait_until(lambda: not deployment(running).refused)
        assert deployment(running).active.name == FIRST


def test_a_bundle_whose_index_does_not_fit_its_vectors_is_refused(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Checksums cannot see it: the smoke queries do."""
    from rf_serving.catalog.snapshot import CatalogSnapshot
    from rf_serving.index import Found

    right = CatalogSnapshot.search

    def shifted(snapshot: CatalogSnapshot, queries_BD: Any, k: int) -> Found:
        found = right(snapshot, queries_BD, k)
        return Found(rows=(found.rows + 1) % snapshot.rows, scores=found.scores)

    with start_server(pair, poll_seconds=0.02) as running:
        monkeypatch.setattr(CatalogSnapshot, "search", shifted)
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).refused)
        assert "do not belong together" in deployment(running).refused
        assert deployment(running).active.name == FIRST


def test_a_bug_while_loading_tells_no_more_than_its_name(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    logs: LogCapture,
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("secret detail")

    with start_server(pair, poll_seconds=0.02) as running:
        monkeypatch.setattr("rf_serving.deployment.loader.check_answers", broken)
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).refused)
        assert deployment(running).refused == (
            f"bundle '{SECOND}' cannot be loaded (KeyError); the server's log has the details"
        )
        assert any(e["event"] == "bundle cannot be loaded" and e.get("exc_info") for e in logs.entries)


def test_a_registry_that_is_gone_changes_nothing(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    with start_server(pair, poll_seconds=0.02) as running:
        value = running.metrics.registry.get_sample_value
        registry, hidden, other = (pair.home / name for name in ("registry.db", "registry.away", "other"))
        hidden.hardlink_to(registry)
        other.write_text("no database" * 1000)
        other.replace(registry)  # at once: the server would make a file that is not there
        wait_until(lambda: value("rf_registry_up") == 0)
        for _ in range(20):
            assert running.stub.Retrieve(RetrieveRequest(user_id="17", k=3)).bundle == FIRST
        hidden.replace(registry)
        wait_until(lambda: value("rf_registry_up") == 1)
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).active.name == SECOND)


def test_a_bundle_that_was_named_is_not_followed_away(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any]
) -> None:
    with start_server(pair, bundle=FIRST, poll_seconds=0.02) as running:
        pair_registry.promote(SECOND)
        threading.Event().wait(0.5)
        assert deployment(running).active.name == FIRST


def test_what_is_served_is_told(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    with start_server(pair, poll_seconds=0.02) as running:
        told = deployment(running)
        assert (told.active.name, told.active.items, told.swaps, told.refused) == (FIRST, 60, 1, "")
        assert told.active.spec_hash == running.retriever.bundle.manifest.spec_hash
        assert not told.HasField("challenger")
        assert not told.HasField("shadow")
        pair_registry.promote(SECOND)
        wait_until(lambda: running.metrics.registry.get_sample_value("rf_bundle_swaps_total") == 1)
        with exposed(running.metrics.registry, "127.0.0.1", 0) as port:
            text = urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
        (line,) = [line for line in text.splitlines() if line.startswith("rf_bundle_info{")]
        assert f'bundle="{SECOND}"' in line
        assert 'role="active"' in line
        assert "rf_bundle_swaps_total" in text
        assert "rf_bundle_load_seconds_count" in text


def test_a_swap_that_fails_at_its_last_step_is_tried_again(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The journal is locked at the moment of the swap."""
    from rf_platform.errors import UnavailableError
    from rf_serving.catalog.live import LiveCatalog
    from rf_serving.deployment.deployments import Deployments

    right = LiveCatalog.catch_up
    failures: list[LiveCatalog] = []

    def locked_twice(catalog: LiveCatalog) -> int:
        if catalog.bundle.name == SECOND and threading.current_thread().name == "rf-deployments" and len(failures) < 2:
            failures.append(catalog)
            raise UnavailableError("the registry is locked")
        return right(catalog)

    monkeypatch.setattr(LiveCatalog, "catch_up", locked_twice)
    monkeypatch.setattr(Deployments, "pause_seconds", 0.05)
    with start_server(pair, poll_seconds=0.02) as running:
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).active.name == SECOND)
        assert len(failures) == 2
        assert deployment(running).swaps == 2
        assert not any(catalog._follower is not None and catalog._follower._thread.is_alive() for catalog in failures)
