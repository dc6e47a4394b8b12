import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from rf_platform.bundle import manifest_sha256, publish, write_manifest
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import Registry
from rf_platform.settings import Settings

_STORE = """
project: small
provider: local
registry: {registry_type: sql}
online_store: {type: sqlite}
offline_store: {type: duckdb}
entity_key_serialization_version: 3
"""
_DEFINITIONS = """
from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import String

user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
item = Entity(name="item", join_keys=["item_id"], value_type=ValueType.INT64)
table = FileSource(path="items.parquet", timestamp_field="event_timestamp")
items = FeatureView(name="items", entities=[item], source=table, schema=[Field(name="genre", dtype=String)])
retrieval = FeatureService(name="retrieval", features=[items])
"""


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings of a fresh workspace."""
    return Settings(home=tmp_path / "home")


@pytest.fixture(scope="session")
def feature_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Feast repository with one item feature."""
    repository = tmp_path_factory.mktemp("feature_repo")
    (repository / "feature_store.yaml").write_text(_STORE)
    (repository / "definitions.py").write_text(_DEFINITIONS)
    return repository


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory, feature_repository: Path) -> tuple[Path, FeatureSpec]:
    """Feast's state after those features were applied, and their specification."""
    from rf_platform.features.apply import apply_definitions

    settings = Settings(home=tmp_path_factory.mktemp("features"), feature_repo=feature_repository)
    return settings.workspace.feast, apply_definitions(settings).definitions.spec


@pytest.fixture
def applied(
    settings: Settings, feature_repository: Path, template: tuple[Path, FeatureSpec]
) -> tuple[Settings, FeatureSpec]:
    """Settings of a workspace whose features are registered, and their specification."""
    state, spec = template
    shutil.copytree(state, settings.workspace.feast)
    return settings.model_copy(update={"feature_repo": feature_repository}), spec


@pytest.fixture
def serve(settings: Settings) -> Callable[[FeatureSpec], Path]:
    """Publish and promote a bundle built from a specification; return its directory."""

    def make(spec: FeatureSpec) -> Path:
        registry = Registry.of(settings)
        registry.record_dataset(name="d-v1", version=1, path="/d", fingerprint="f", spec_hash=spec.hash, counts={})
        registry.start_run("demo", dataset="d-v1", recipe="small", config={}, path="/demo")
        target = settings.workspace.bundles / "demo-1"
        with publish(target) as staging:
            spec.save(staging / "spec.json")
            (staging / "vectors.npy").write_bytes(b"12345678" * 1000)
            write_manifest(
                staging,
                name="demo-1",
                run="demo",
                dataset_fingerprint="f",
                spec_hash=spec.hash,
                metrics={},
                index={"kind": "flat"},
            )
        registry.record_bundle(
            name="demo-1",
            run="demo",
            path=target,
            manifest_sha256=manifest_sha256(target),
            spec_hash=spec.hash,
            metrics={},
        )
        registry.promote("demo-1")
        return target

    return make
