import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rf_platform.errors import ConfigError, CorruptError, NotFoundError, UsageError
from rf_platform.features.spec import FeatureSpec
from rf_platform.registry import BundleRecord, Registry, check_bundle, promote, roll_back

MakeBundle = Callable[[str], BundleRecord]


@pytest.fixture
def served(make_bundle: MakeBundle, with_run: Registry) -> Registry:
    """A registry that serves demo-2, with demo-1 behind it."""
    for name in ("demo-1", "demo-2", "demo-3"):
        make_bundle(name)
    promote(with_run, "demo-1")
    promote(with_run, "demo-2")
    return with_run


def served_name(registry: Registry) -> str | None:
    active = registry.active_bundle()
    return active.name if active else None


def test_an_intact_bundle_is_promoted_and_rolled_back(served: Registry, spec: FeatureSpec) -> None:
    assert promote(served, "demo-3", note="better", current_spec=spec).note == "better"
    assert served_name(served) == "demo-3"
    assert roll_back(served, note="worse", current_spec=lambda: spec).bundle == "demo-2"
    assert served_name(served) == "demo-2"


def test_a_damaged_bundle_is_refused_by_file_and_the_earlier_one_stays(served: Registry, home: Path) -> None:
    (home / "bundles" / "demo-3" / "vectors.npy").write_bytes(b"demo-3" * 99 + b"demo-4")
    with pytest.raises(CorruptError, match=r"'demo-3'.*vectors\.npy \(checksum differs\)"):
        promote(served, "demo-3")
    assert served_name(served) == "demo-2"
    assert len(served.deployments()) == 2


def test_a_rollback_to_a_damaged_bundle_is_refused(served: Registry, home: Path) -> None:
    (home / "bundles" / "demo-1" / "vectors.npy").unlink()
    with pytest.raises(CorruptError, match=r"'demo-1'.*vectors\.npy \(missing\)"):
        roll_back(served)
    assert served_name(served) == "demo-2"


def test_another_bundle_under_the_same_name_is_refused(served: Registry, home: Path) -> None:
    shutil.rmtree(home / "bundles" / "demo-3")
    shutil.copytree(home / "bundles" / "demo-1", home / "bundles" / "demo-3")
    with pytest.raises(CorruptError, match=r"manifest\.json \(not the one that was recorded"):
        promote(served, "demo-3")
    assert served_name(served) == "demo-2"


def test_a_bundle_whose_directory_is_gone_is_refused(served: Registry, home: Path) -> None:
    shutil.rmtree(home / "bundles" / "demo-3")
    with pytest.raises(NotFoundError, match="demo-3 does not exist"):
        promote(served, "demo-3")


def test_a_changed_feature_store_is_refused_by_field(served: Registry, spec: FeatureSpec) -> None:
    (genre,) = spec.fields
    year = replace(genre, field="year", kind="numeric", dtype="Float32", domain=None)
    changed = replace(spec, fields=(replace(genre, kind="multi", dtype="Array(String)"), year))
    for call in (promote, lambda *a, **k: roll_back(a[0], **k)):
        with pytest.raises(ConfigError) as refused:
            call(served, "demo-3", current_spec=changed)
        text = str(refused.value)
        assert "field items__genre changed: kind 'categorical' -> 'multi'" in text
        assert "field items__year is new" in text
        assert "rf features apply" in text
    assert served_name(served) == "demo-2"


def test_a_rollback_is_refused_if_somebody_deploys_during_its_checks(served: Registry, spec: FeatureSpec) -> None:
    def meanwhile() -> FeatureSpec:
        served.promote("demo-3")
        return spec

    with pytest.raises(UsageError, match="now leads to 'demo-2', not to 'demo-1'"):
        roll_back(served, current_spec=meanwhile)
    assert served_name(served) == "demo-3"


def test_checksums_come_before_the_feature_store(served: Registry, home: Path) -> None:
    (home / "bundles" / "demo-3" / "spec.json").write_text("{}")

    def unreachable() -> FeatureSpec:
        pytest.fail("the feature store must not be asked")

    with pytest.raises(CorruptError, match=r"spec\.json"):
        promote(served, "demo-3", current_spec=unreachable)


def test_a_specification_of_another_version_is_refused(
    make_bundle: MakeBundle, with_run: Registry, spec: FeatureSpec
) -> None:
    record = make_bundle("demo-1")
    with pytest.raises(ConfigError, match="another version of the code"):
        check_bundle(replace(record, spec_hash="0" * 64), spec)
