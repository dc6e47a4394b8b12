"""Two bundles share the users, and one answers unseen."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import LogCapture

from rf_platform.settings import Settings
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.retrieval_pb2 import Interaction, RetrieveRequest, Session
from rf_serving.retrieval import inline_batcher
from rf_serving.retrieval.query import subject_key
from rf_serving.retrieval.routing import bucket

if TYPE_CHECKING:
    from rf_platform.registry import Registry

FIRST, SECOND = "tiny-run-1", "other-run-1"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep quick requests in the event loop, however busy the machine is."""
    monkeypatch.setattr(inline_batcher, "_SLOW_SECONDS", 60.0)


def deployment(running: Any) -> GetDeploymentResponse:
    stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
    response: GetDeploymentResponse = stub.GetDeployment(GetDeploymentRequest())
    return response


def test_places_are_spread_evenly_and_never_change() -> None:
    places = [bucket("salt", str(user).encode()) for user in range(20_000)]
    assert 0 <= min(places) < 0.1
    assert 99.9 < max(places) < 100
    for percent in (1, 10, 50, 90):
        assert sum(p < percent for p in places) / 200 == pytest.approx(percent, abs=1)
    assert bucket("salt", b"42") == pytest.approx(12.2234, abs=1e-4)  # in every process, forever
    # another salt is another choice: half of the chosen are chosen again
    again = [bucket("pepper", str(user).encode()) < 50 for user in range(20_000)]
    both = sum(a and p < 50 for a, p in zip(again, places, strict=True))
    assert both / 20_000 == pytest.approx(0.25, abs=0.02)


def test_a_session_is_known_by_its_id_or_by_its_first_interaction() -> None:
    first, second = Interaction(item_id="1"), Interaction(item_id="2")
    longer = Session(history=[first, second])
    assert subject_key(Session(history=[first])) == subject_key(longer)
    assert subject_key(Session(history=[second])) != subject_key(longer)
    named = Session(session_id="abc", history=[second])
    assert subject_key(named) == subject_key(Session(session_id="abc"))
    assert subject_key("abc") != subject_key(Session(session_id="abc"))
    assert subject_key(7) == subject_key("7")


def test_users_stay_with_their_bundle_while_the_split_grows(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    users = [str(user) for user in range(1, 31)]

    def bundles(running: Any) -> dict[str, str]:
        return {user: running.stub.Retrieve(RetrieveRequest(user_id=user, k=1)).bundle for user in users}

    with start_server(pair, poll_seconds=0.02) as running:
        pair_registry.traffic.split(SECOND, 30)
        wait_until(lambda: deployment(running).split_percent == 30)
        told = deployment(running)
        assert (told.active.name, told.challenger.name, told.swaps) == (FIRST, SECOND, 1)
        before = bundles(running)
        salt = pair_registry.traffic.now().salt
        assert before == {user: SECOND if bucket(salt, user.encode()) < 30 else FIRST for user in users}
        pair_registry.traffic.split(SECOND, 70)
        wait_until(lambda: deployment(running).split_percent == 70)
        after = bundles(running)
        assert all(after[user] == SECOND for user in users if before[user] == SECOND)
        assert sum(bundle == SECOND for bundle in after.values()) > sum(bundle == SECOND for bundle in before.values())
        named = RetrieveRequest(session=Session(session_id="s-1"), k=1)
        assert len({running.stub.Retrieve(named).bundle for _ in range(5)}) == 1
        engine = running.parts.deployments.serving.challenger.route.engine
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).active.name == SECOND)
        assert running.retriever.engine is engine  # it was loaded already
        assert set(bundles(running).values()) == {SECOND}
        assert not deployment(running).HasField("challenger")
        value = running.metrics.registry.get_sample_value
        assert value("rf_answers_total", {"bundle": FIRST}) > 0
        assert value("rf_answers_total", {"bundle": SECOND}) > 0
        assert value("rf_answer_paths_total", {"path": "quick"}) == 3 * len(users) + 5
        assert value("rf_answer_paths_total", {"path": "full"}) is None


def test_a_shadow_compares_and_stays_unseen(
    pair: Settings, pair_registry: "Registry", start_server: Callable[..., Any], wait_until: Callable[..., None]
) -> None:
    with start_server(pair, poll_seconds=0.02) as running:
        pair_registry.traffic.shadow(SECOND, 1.0)
        wait_until(lambda: deployment(running).HasField("shadow"))
        overlaps = []
        for user in range(1, 11):
            request = RetrieveRequest(user_id=str(user), k=10)
            seen = running.stub.Retrieve(request)
            assert seen.bundle == FIRST
            overlaps.append({item.item_id for item in seen.items})
        session = RetrieveRequest(session=Session(history=[Interaction(item_id="3")]), k=10)
        overlaps.append({item.item_id for item in running.stub.Retrieve(session).items})
        wait_until(lambda: deployment(running).shadow_report.requests == 11)
        report = deployment(running).shadow_report
        assert report.failed == 0
        assert report.active_ms > 0
        assert report.shadow_ms > 0
        # the same requests to the other bundle itself
        pair_registry.promote(SECOND)
        wait_until(lambda: deployment(running).active.name == SECOND)
        assert not deployment(running).HasField("shadow")  # it answers now
        others = [
            {item.item_id for item in running.stub.Retrieve(RetrieveRequest(user_id=str(user), k=10)).items}
            for user in range(1, 11)
        ]
        others.append({item.item_id for item in running.stub.Retrieve(session).items})
        expected = sum(len(a & b) / 10 for a, b in zip(overlaps, others, strict=True)) / 11
        assert report.overlap == pytest.approx(expected, abs=1e-6)
        assert 0 < expected < 1
        value = running.metrics.registry.get_sample_value
        assert value("rf_shadow_requests_total", {"outcome": "answered"}) == 11
        assert value("rf_shadow_overlap_sum") == pytest.approx(11 * expected, abs=1e-6)
        assert value("rf_answer_paths_total", {"path": "quick"}) == 22


def test_a_shadow_that_fails_or_hangs_harms_nobody(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    logs: LogCapture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("rf_serving.deployment.shadow._WAITING", 3)
    with start_server(pair, poll_seconds=0.02) as running:
        pair_registry.traffic.shadow(SECOND, 1.0)
        wait_until(lambda: deployment(running).HasField("shadow"))
        engine = running.parts.deployments.serving.shadow.loaded.route.engine
        released: list[bool] = []

        def hanging(*_: Any, **__: Any) -> None:
            while not released:
                time.sleep(0.01)
            raise RuntimeError("no answer")

        monkeypatch.setattr(engine, "rank", hanging)
        for _ in range(10):
            assert running.stub.Retrieve(RetrieveRequest(user_id="17", k=3), timeout=20).bundle == FIRST
        # one is being answered, three wait, and for six there was no room
        wait_until(lambda: deployment(running).shadow_report.failed == 6)
        released.append(True)
        wait_until(lambda: deployment(running).shadow_report.failed == 10)
        assert deployment(running).shadow_report.requests == 0
        assert any(e["event"] == "shadow failed" and "RuntimeError" in e["error"] for e in logs.entries)


def test_a_busy_server_leaves_its_shadow_alone(pair: Settings, start_server: Callable[..., Any]) -> None:
    from prometheus_client import CollectorRegistry

    from rf_serving.deployment.metrics import DeploymentMetrics
    from rf_serving.deployment.shadow import Shadow
    from rf_serving.retrieval.query import Query
    from rf_serving.stage_timer import StageTimer
    from rf_serving.user_features.features import UserFeatures

    with start_server(pair) as running:
        loaded = running.parts.deployments.serving.active
        query = Query(subject=17, k=5, exclude_seen=False)
        answer = loaded.route.engine.rank(UserFeatures(), query, StageTimer(lambda stage, seconds: None))
        metrics = DeploymentMetrics(CollectorRegistry())
        busy = Shadow(loaded, 1.0, metrics, busy=lambda: True)
        seldom = Shadow(loaded, 0.25, metrics, seed=5)
        other = Shadow(loaded, 1.0, metrics)
        for _ in range(400):
            busy.offer(query, UserFeatures(), answer)
            seldom.offer(query, UserFeatures(), answer)
        # the same bundle as its own shadow agrees with itself, also where it has to read the features by itself
        other.offer(query, UserFeatures(), answer)
        other.offer(query, UserFeatures(), replace(answer, spec_hash="another"))
        deadline = time.monotonic() + 20
        while other.report().requests < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for shadow in (busy, seldom, other):
            shadow.close()
        assert (busy.report().failed, busy.report().requests) == (400, 0)
        assert 60 < seldom.report().failed + seldom.report().requests + 64 < 200
        assert other.report().failed == 0
        assert 0.5 <= other.report().overlap <= 1
