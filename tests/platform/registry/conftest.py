import os
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, text

from rf_platform.bundle import manifest_sha256, publish, write_manifest
from rf_platform.features.spec import DomainSpec, EntitySpec, FeatureSpec, FieldSpec
from rf_platform.registry import BundleRecord, Registry
from rf_platform.settings import get_settings


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def registry_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """URL of an empty database: an SQLite file that does not exist yet, or a schema of its own on the PostgreSQL server."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'home' / 'registry.db'}"
        return
    server = os.environ.get("RF_TEST_POSTGRES_URL")
    if not server:
        pytest.skip("RF_TEST_POSTGRES_URL is not set")
    engine = create_engine(server.replace("postgresql://", "postgresql+psycopg://", 1), isolation_level="AUTOCOMMIT")
    schema = f"rf_test_{uuid4().hex}"
    with engine.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    try:
        yield f"{server}{'&' if '?' in server else '?'}options=-csearch_path%3D{schema}"
    finally:
        with engine.connect() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The workspace that the settings name while the test runs."""
    monkeypatch.setenv("RF_HOME", str(tmp_path / "home"))
    get_settings.cache_clear()
    yield tmp_path / "home"
    get_settings.cache_clear()


@pytest.fixture
def registry(registry_url: str, home: Path) -> Registry:
    """An empty registry."""
    return Registry.open(registry_url, root=home)


@pytest.fixture
def with_run(registry: Registry, home: Path) -> Registry:
    """A registry with dataset ``movies-v1`` and run ``demo`` on it."""
    registry.record_dataset(
        name="movies-v1",
        version=1,
        path=home / "datasets" / "movies-v1",
        fingerprint="f1",
        spec_hash="s1",
        counts={"events": 10},
    )
    registry.start_run("demo", dataset="movies-v1", recipe="small", config={"seed": 1}, path=home / "runs" / "demo")
    return registry


@pytest.fixture
def spec() -> FeatureSpec:
    """A small FeatureSpec."""
    genre = FieldSpec(
        view="items", field="genre", side="item", kind="categorical", role="feature", dtype="String", domain="genre"
    )
    return FeatureSpec(
        service="retrieval",
        user=EntitySpec(name="user", join_key="user_id", id_type="int64"),
        item=EntitySpec(name="item", join_key="item_id", id_type="int64"),
        fields=(genre,),
        domains=(DomainSpec(name="genre", value_type="string"),),
        history_length=50,
    )


@pytest.fixture
def make_bundle(with_run: Registry, home: Path, spec: FeatureSpec) -> Callable[[str], BundleRecord]:
    """Publish and record a bundle of run ``demo`` by name."""

    def make(name: str) -> BundleRecord:
        target = home / "bundles" / name
        with publish(target) as staging:
            spec.save(staging / "spec.json")
            (staging / "vectors.npy").write_bytes(name.encode() * 100)
            write_manifest(
                staging,
                name=name,
                run="demo",
                dataset_fingerprint="f1",
                spec_hash=spec.hash,
                metrics={"test": {"recall@20": 0.25}},
                index={"kind": "flat"},
            )
        return with_run.record_bundle(
            name=name,
            run="demo",
            path=target,
            manifest_sha256=manifest_sha256(target),
            spec_hash=spec.hash,
            metrics={"test": {"recall@20": 0.25, "ndcg@20": 0.125}, "epochs": 3},
        )

    return make
