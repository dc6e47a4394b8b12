import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rf_platform.doctor.check import Check, CheckResult, Status, run_checks
from rf_platform.doctor.stores import check_object_store, check_served_bundle, check_served_features
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import Registry, promote
from rf_platform.settings import Settings

Applied = tuple[Settings, FeatureSpec]
Serve = Callable[[FeatureSpec], Path]


def look(settings: Settings) -> tuple[CheckResult, CheckResult]:
    bundle, features = run_checks(
        (Check("bundle", check_served_bundle), Check("features", check_served_features)), settings
    )
    return bundle, features


def test_nothing_served(settings: Settings) -> None:
    assert [r.status for r in look(settings)] == [Status.WARN, Status.OK]
    Registry.of(settings)
    assert [r.status for r in look(settings)] == [Status.WARN, Status.OK]


def test_an_intact_bundle_of_the_current_features(applied: Applied, serve: Serve) -> None:
    settings, spec = applied
    serve(spec)
    bundle, features = look(settings)
    assert (bundle.status, features.status) == (Status.OK, Status.OK)
    assert bundle.detail == "demo-1: 2 files, 0.0 MiB, intact"


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: (d / "vectors.npy").unlink(), "vectors.npy (missing)"),
        (lambda d: (d / "vectors.npy").write_bytes(b"12345679" * 1000), "vectors.npy (checksum differs)"),
        (shutil.rmtree, "demo-1 does not exist"),
        (lambda d: (d / "manifest.json").write_text("{"), "manifest.json cannot be read"),
    ],
)
def test_a_damaged_bundle_is_named(applied: Applied, serve: Serve, damage: Callable[[Path], object], says: str) -> None:
    settings, spec = applied
    damage(serve(spec))
    bundle, features = look(settings)
    assert bundle.status is Status.FAIL
    assert says in bundle.detail
    assert "build" in bundle.remedy
    assert features.status is not Status.FAIL  # said once


def test_a_bundle_that_is_in_the_object_store_only(applied: Applied, serve: Serve, store_url: str) -> None:
    settings, spec = applied
    (before,) = run_checks((Check("object store", check_object_store),), settings)
    assert (before.status, "RF_STORE_URL" in before.detail) == (Status.OK, True)
    settings = settings.model_copy(update={"store_url": store_url})
    directory = serve(spec)
    promote(Registry.of(settings), "demo-1")
    shutil.rmtree(directory)
    (store,) = run_checks((Check("object store", check_object_store),), settings)
    assert store.detail == f"{store_url}: 1 bundles, 0 datasets, 0 runs, 0 logs"
    bundle, features = look(settings)
    assert (bundle.status, features.status) == (Status.OK, Status.OK)
    assert "demo-1 is not on this host yet" in bundle.detail


def test_an_object_store_that_is_not_there(settings: Settings, tmp_path: Path) -> None:
    away = settings.model_copy(update={"store_url": (tmp_path / "away").as_uri()})
    (store,) = run_checks((Check("object store", check_object_store),), away)
    assert (store.status, "make it, or mount it" in store.detail + store.remedy) == (Status.FAIL, True)


def test_other_features_are_named(applied: Applied, serve: Serve) -> None:
    settings, spec = applied
    serve(replace(spec, fields=(replace(spec.fields[0], kind="multi", dtype="Array(String)"),)))
    bundle, features = look(settings)
    assert (bundle.status, features.status) == (Status.OK, Status.FAIL)
    assert "field items__genre changed" in features.detail
    assert "rf features apply" in features.remedy


def test_features_that_came_later_are_a_remark(applied: Applied, serve: Serve) -> None:
    settings, spec = applied
    serve(replace(spec, fields=(), domains=()))
    _, features = look(settings)
    assert (features.status, features.detail) == (Status.OK, "the feature store offers all that demo-1 reads")
    assert features.remedy == "new since it was built, and used from the next dataset on: items__genre"


def test_features_that_cannot_be_read_are_not_a_second_failure(applied: Applied, serve: Serve) -> None:
    settings, spec = applied
    serve(spec)
    broken = settings.model_copy(update={"feature_service": "other"})
    assert [r.status for r in look(broken)] == [Status.OK, Status.WARN]
