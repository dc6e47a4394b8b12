"""The same answers from Redis and PostgreSQL as from SQLite."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from rf_platform.features.apply import apply_definitions
from rf_platform.features.materialize import materialize
from rf_platform.features.read import read_spec
from rf_platform.features.seen_rows import drop_seen
from rf_platform.features.store import open_store, quiet
from rf_platform.settings import Settings
from rf_protos.v1.retrieval_pb2 import RetrieveRequest
from rf_serving.retrieval import inline_batcher

REPOSITORY = Path(__file__).parents[2] / "feature_repo" / "movielens"


@pytest.fixture(
    params=[
        pytest.param("RF_TEST_REDIS_URL", marks=pytest.mark.redis, id="redis"),
        pytest.param("RF_TEST_POSTGRES_URL", marks=pytest.mark.postgres, id="postgres"),
    ]
)
def elsewhere(request: pytest.FixtureRequest, home_copy: Path, tmp_path: Path) -> Iterator[Settings]:
    """A copy of the workspace whose features lie in a server, under a project of their own."""
    url = os.environ.get(request.param)
    if not url:
        pytest.skip(f"{request.param} is not set")
    repository = Path(shutil.copytree(REPOSITORY, tmp_path / "repo", ignore=shutil.ignore_patterns("__pycache__")))
    config = repository / "feature_store.yaml"
    config.write_text(config.read_text().replace("project: movielens", f"project: rf_test_{uuid4().hex[:12]}"))
    settings = Settings(
        home=home_copy,
        feature_repo=repository,
        online_store_url=url,
        feast_registry_url=f"sqlite:///{tmp_path / 'feast.db'}",
    )
    apply_definitions(settings)
    try:
        materialize(settings)
        yield settings
    finally:
        with quiet():
            store = open_store(settings)
            drop_seen(store, read_spec(store, settings.feature_service))
            store.teardown()


def test_answers_do_not_depend_on_the_engine(
    elsewhere: Settings, stub: Any, start_server: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_batcher, "_SLOW_SECONDS", 60.0)  # however busy the machine is
    with start_server(elsewhere) as other:
        for user in ("1", "3", "17", "30", "31", "999"):
            request = RetrieveRequest(user_id=user, k=20, exclude_seen=True, return_history=True)
            here, there = stub.Retrieve(request), other.stub.Retrieve(request)
            assert there.items == here.items
            assert there.history == here.history
            assert there.cold == here.cold
        assert other.metrics.registry.get_sample_value("rf_answer_paths_total", {"path": "quick"}) == 6
