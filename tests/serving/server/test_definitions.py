"""Feature definitions change under a server, and it starts, swaps, splits and shadows with what it has, as far as that fits."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from structlog.testing import LogCapture

from rf_platform.errors import ConfigError
from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.features.store import open_store
from rf_platform.registry import promote, roll_back
from rf_platform.registry.journal import CatalogJournal
from rf_platform.settings import Settings
from rf_protos.v1.deployment_pb2 import GetDeploymentRequest, GetDeploymentResponse
from rf_protos.v1.deployment_pb2_grpc import DeploymentServiceStub
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.deployment.loader import BundleLoader

if TYPE_CHECKING:
    from rf_platform.registry import Registry

REPOSITORY = Path(__file__).parents[3] / "feature_repo" / "movielens"
FIRST, SECOND = "tiny-run-1", "other-run-1"
MAX_HISTORY = 8
USERS = [str(user) for user in range(1, 32)]
NEW_FIELDS = (
    ("users.py", "    schema=[", '    schema=[\n        Field(name="country", dtype=String),'),
    ("items.py", "    schema=[", '    schema=[\n        Field(name="studio", dtype=String),'),
    (
        "context.py",
        "    schema=[",
        '    schema=[\n        Field(name="again", dtype=Array(Int64), tags={"role": "history", "of": "hour"}),',
    ),
)
Edit = tuple[str, str, str]


@pytest.fixture(autouse=True)
def as_urgent_as_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine with much to do, loads in the background would take forever otherwise."""
    monkeypatch.setattr("rf_serving.threads.NICE", 0)


def deployment(running: Any) -> GetDeploymentResponse:
    stub = DeploymentServiceStub(running.channel)  # type: ignore[no-untyped-call]
    response: GetDeploymentResponse = stub.GetDeployment(GetDeploymentRequest())
    return response


def answers(running: Any) -> list[tuple[str, list[str], list[float]]]:
    replies = [running.stub.Retrieve(RetrieveRequest(user_id=user, k=10)) for user in USERS]
    assert not any(reply.degraded for reply in replies)
    return [
        (reply.bundle, [item.item_id for item in reply.items], [round(item.score, 4) for item in reply.items])
        for reply in replies
    ]


@contextmanager
def edited(settings: Settings, *edits: Edit) -> Iterator[Settings]:
    """The workspace with definitions that were edited and applied; afterwards they are those that they were."""
    repository = settings.home / "repository"
    shutil.rmtree(repository, ignore_errors=True)
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    for name, old, new in edits:
        text = (repository / name).read_text()
        assert old in text
        (repository / name).write_text(text.replace(old, new))
    changed = settings.model_copy(update={"feature_repo": repository})
    apply_definitions(changed)
    yield changed
    apply_definitions(settings)


def test_additions_stop_nothing(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    logs: LogCapture,
) -> None:
    """New fields on existing views, and a history as long as the model reads: before a materialisation and after one."""
    with start_server(pair, poll_seconds=0.02) as running:
        before = answers(running)
    logged = len(logs.entries)
    length = ("context.py", '"history_length": "50"', '"history_length": "8"')
    with edited(pair, *NEW_FIELDS, length) as changed, start_server(changed, poll_seconds=0.02) as running:
        assert answers(running) == before
        (noted,) = [e for e in logs.entries[logged:] if e["event"] == "other features" and e["bundle"] == FIRST]
        assert noted["added"] == ["interaction_context__again", "item_attributes__studio", "user_profile__country"]
        assert noted["changed"] == ["history_length 50 -> 8"]
        current = running.parts.deployments
        pair_registry.traffic.split(SECOND, 50)
        pair_registry.traffic.shadow(SECOND, 1.0)
        wait_until(lambda: deployment(running).split_percent == 50 and deployment(running).HasField("shadow"))
        assert {bundle for bundle, *_ in answers(running)} == {FIRST, SECOND}
        wait_until(lambda: deployment(running).shadow_report.requests)
        pair_registry.traffic.shadow(None, 0.0)
        promote(pair_registry, SECOND, current_spec=lambda: spec_of(changed))
        wait_until(lambda: current.serving.active.name == SECOND)
        assert {bundle for bundle, *_ in answers(running)} == {SECOND}
        roll_back(pair_registry, current_spec=lambda: spec_of(changed))
        wait_until(lambda: current.serving.active.name == FIRST)
        assert answers(running) == before
        assert deployment(running).refused == ""
        kept = history_lengths(running)
        assert max(kept) > MAX_HISTORY
        materialize(changed, ["interaction_context"])
        assert history_lengths(running) == [min(length, MAX_HISTORY) for length in kept]
        assert answers(running) == before  # the model reads no more


def test_a_server_takes_over_no_bundle_that_does_not_fit(
    pair: Settings,
    pair_registry: "Registry",
    start_server: Callable[..., Any],
    wait_until: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whatever let it into the registry: as the active bundle, as a challenger and as a shadow; nor does a server start."""
    monkeypatch.setattr("rf_serving.deployment.deployments._RETRY_SECONDS", 0.1)
    monkeypatch.setattr("rf_serving.deployment.deployments._MOST_RETRY_SECONDS", 0.1)
    with start_server(pair, poll_seconds=0.02) as running:
        before = answers(running)
        renamed = ("users.py", 'name="gender"', 'name="sex"')
        with edited(pair, renamed) as changed:
            for deploy, withdraw in (
                (lambda: pair_registry.promote(SECOND), pair_registry.rollback),
                (lambda: pair_registry.traffic.split(SECOND, 99), pair_registry.traffic.end_split),
                (lambda: pair_registry.traffic.shadow(SECOND, 1.0), lambda: pair_registry.traffic.shadow(None, 0.0)),
            ):
                deploy()
                wait_until(lambda: deployment(running).refused, 60)
                told = deployment(running)
                assert "field user_profile__gender is gone" in told.refused
                assert (told.active.name, told.swaps) == (FIRST, 1)
                assert not told.HasField("challenger")
                assert not told.HasField("shadow")
                assert answers(running) == before
                withdraw()
                wait_until(lambda: not deployment(running).refused, 60)
            with (
                pytest.raises(ConfigError, match="user_profile__gender is gone"),
                start_server(changed),
            ):
                pass
            pair_registry.promote(SECOND)
            wait_until(lambda: deployment(running).refused, 60)
        wait_until(lambda: deployment(running).active.name == SECOND, 60)  # the definitions are back


def test_a_bundle_is_loaded_by_the_definitions_of_the_moment(pair: Settings, pair_registry: "Registry") -> None:
    """Fields that were added, and a ttl that was set, after the store was opened: the new bundle does not read by the old ttl."""
    store = open_store(pair)
    journal = CatalogJournal.open(pair.platform_registry_url)
    loader = BundleLoader(pair, store, journal)
    first = loader.load(pair_registry.bundle(FIRST))
    again = loader.load(pair_registry.bundle(SECOND), first.route)
    assert again.route.fetcher is first.route.fetcher
    (user,) = first.route.fetcher.fetch_many([1])
    assert all(value is not None for value in user.profile.values())
    ttl = ("users.py", "    online=True,", '    online=True,\n    ttl=__import__("datetime").timedelta(days=1),')
    with edited(pair, NEW_FIELDS[0], ttl):
        second = loader.load(pair_registry.bundle(SECOND), first.route)
    assert "user_profile__country" in loader.offered.profile
    (expired,) = second.route.fetcher.fetch_many([1])
    assert list(expired.items) == list(user.items)
    assert not any(expired.profile.values())
    for loaded in (first, again, second):
        loaded.route.fetcher.close()
        loaded.close()
    journal.close()


def history_lengths(running: Any) -> list[int]:
    replies = [running.stub.Retrieve(RetrieveRequest(user_id=user, k=1, return_history=True)) for user in USERS]
    return [len(reply.history) for reply in replies]


def spec_of(settings: Settings) -> Any:
    from rf_platform.registry import features_now

    return features_now(settings)
