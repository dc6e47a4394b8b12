import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from rf_platform.errors import ConfigError, CorruptError, NotFoundError, UsageError
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.features.spec_fit import SpecFit
from rf_platform.registry import (
    BundleRecord,
    Registry,
    TrafficRecord,
    check_spec,
    promote,
    roll_back,
    shadow,
    split,
)

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


DOORS: dict[str, Callable[..., object]] = {
    "promote": lambda registry, **current: promote(registry, "demo-3", **current),
    "roll back": roll_back,
    "split": lambda registry, **current: split(registry, "demo-3", 10, **current),
    "shadow": lambda registry, **current: shadow(registry, "demo-3", 0.5, **current),
}


@pytest.mark.parametrize("door", DOORS)
def test_a_feature_store_without_what_a_bundle_reads_is_refused_by_field(
    served: Registry, spec: FeatureSpec, door: str
) -> None:
    (genre,) = spec.fields
    changed = replace(spec, fields=(replace(genre, kind="multi", dtype="Array(String)"),))
    with pytest.raises(ConfigError) as refused:
        DOORS[door](served, current_spec=changed)
    text = str(refused.value)
    assert "field items__genre changed: kind 'categorical' -> 'multi', dtype 'String' -> 'Array(String)'" in text
    assert "; bring the feature definitions back and run `rf features apply`" in text
    assert served_name(served) == "demo-2"
    assert served.traffic.now() == TrafficRecord()


@pytest.mark.parametrize("door", DOORS)
def test_a_feature_store_with_more_than_a_bundle_reads_is_accepted(
    served: Registry, spec: FeatureSpec, door: str
) -> None:
    (genre,) = spec.fields
    year = replace(genre, field="year", kind="numeric", dtype="Float32", domain=None)
    DOORS[door](served, current_spec=replace(spec, fields=(genre, year), service="other", history_length=99))
    traffic = served.traffic.now()
    assert {"demo-3", "demo-1"} & {served_name(served), traffic.challenger, traffic.shadow}


@pytest.mark.parametrize(("max_history", "fits"), [(20, True), (21, False), (None, False)])
def test_the_model_says_how_much_history_it_reads(
    make_bundle: MakeBundle, with_run: Registry, spec: FeatureSpec, max_history: int | None, fits: bool
) -> None:
    record = make_bundle("demo-1")
    items = FieldSpec(
        view="recent",
        field="items",
        side="context",
        kind="categorical",
        role="history",
        dtype="Array(Int64)",
        domain="item_id",
        of="item_id",
    )
    built = replace(spec, fields=(*spec.fields, items))
    built.save(record.path / "spec.json")
    if max_history is not None:
        (record.path / "model").mkdir()
        (record.path / "model" / "config.json").write_text(json.dumps({"max_history": max_history}))
    shorter = replace(built, history_length=20)
    if fits:
        assert check_spec(record, shorter) == SpecFit(changed=("history_length 50 -> 20",))
        return
    with pytest.raises(ConfigError, match=rf"history_length 50 -> 20, and the model reads {max_history or 50} inter"):
        check_spec(record, shorter)


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


def test_the_hash_of_another_version_of_the_code_is_no_reason_to_refuse(
    make_bundle: MakeBundle, spec: FeatureSpec
) -> None:
    record = make_bundle("demo-1")
    assert check_spec(replace(record, spec_hash="0" * 64), spec) == SpecFit()


def test_a_specification_that_cannot_be_read_is_named(make_bundle: MakeBundle, spec: FeatureSpec) -> None:
    record = make_bundle("demo-1")
    (record.path / "spec.json").write_text("{}")
    with pytest.raises(CorruptError, match=r"spec\.json cannot be read: .*; restore it, or build again"):
        check_spec(record, spec)
