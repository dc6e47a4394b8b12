from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path

import pytest

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.registry import Action, BundleRecord, Registry

MakeBundle = Callable[[str], BundleRecord]


@pytest.fixture
def abcd(with_run: Registry) -> Registry:
    """A registry with the bundles A, B, C and D, without files."""
    for name in "ABCD":
        with_run.record_bundle(name=name, run="demo", path=f"/{name}", manifest_sha256=name, spec_hash="s", metrics={})
    return with_run


def test_a_bundle_is_returned_as_it_was_recorded(make_bundle: MakeBundle, with_run: Registry, home: Path) -> None:
    made = make_bundle("demo-1")
    assert made == with_run.bundle("demo-1")
    assert with_run.bundles() == [made]
    assert (made.name, made.run, made.path) == ("demo-1", "demo", home / "bundles" / "demo-1")
    assert made.metrics == {"test": {"recall@20": 0.25, "ndcg@20": 0.125}, "epochs": 3}
    with pytest.raises(FrozenInstanceError):
        made.name = "x"  # type: ignore[misc]


def test_recording_the_same_bundle_again_only_moves_it(abcd: Registry) -> None:
    before = abcd.bundle("A")
    after = abcd.record_bundle(name="A", run="demo", path="/moved", manifest_sha256="A", spec_hash="s", metrics={})
    assert (after.path, after.created_at) == (Path("/moved"), before.created_at)
    with pytest.raises(
        UsageError, match="another bundle, of run 'demo', was recorded as 'A', and bundles never change"
    ):
        abcd.record_bundle(name="A", run="demo", path="/x", manifest_sha256="other", spec_hash="s", metrics={})
    assert abcd.bundle("A") == after


def test_bundles_need_a_recorded_run_and_a_safe_name(with_run: Registry) -> None:
    with pytest.raises(NotFoundError, match="no run 'x'"):
        with_run.record_bundle(name="x-1", run="x", path="/x", manifest_sha256="", spec_hash="", metrics={})
    with pytest.raises(UsageError, match="cannot be the name of a bundle"):
        with_run.record_bundle(name="../x", run="demo", path="/x", manifest_sha256="", spec_hash="", metrics={})


def test_the_next_name_is_one_that_nobody_has(make_bundle: MakeBundle, with_run: Registry, home: Path) -> None:
    bundles = home / "bundles"
    assert with_run.next_bundle_name("demo", bundles) == "demo-1"
    make_bundle("demo-1")
    (bundles / "demo-2").mkdir()  # published, but its builder died before it was recorded
    assert with_run.next_bundle_name("demo", bundles) == "demo-3"
    assert with_run.next_bundle_name("demo", home / "empty") == "demo-2"
    assert with_run.next_bundle_name("dem", bundles) == "dem-1"


def test_nothing_is_served_at_first(with_run: Registry) -> None:
    assert with_run.active_bundle() is None
    assert with_run.deployments() == []
    with pytest.raises(UsageError, match="nothing to go back to: no bundle was ever promoted"):
        with_run.rollback()


def test_the_newest_deployment_is_served(abcd: Registry) -> None:
    abcd.promote("A", "first")
    made = abcd.promote("C")
    assert abcd.active_bundle() == abcd.bundle("C")
    history = abcd.deployments()
    assert [(d.bundle, d.action, d.note) for d in history] == [
        ("A", Action.PROMOTE, "first"),
        ("C", Action.PROMOTE, ""),
    ]
    assert history[-1] == made
    assert history[0].id < history[1].id
    assert history[0].created_at <= history[1].created_at


def test_promoting_the_served_bundle_changes_nothing(abcd: Registry) -> None:
    abcd.promote("A")
    first = abcd.promote("B", "first")
    assert abcd.promote("B", "second") == first
    assert len(abcd.deployments()) == 2
    assert abcd.rollback().bundle == "A"


def test_two_rollbacks_go_back_two(abcd: Registry) -> None:
    for name in "ABC":
        abcd.promote(name)
    assert abcd.rollback("C is slow").bundle == "B"
    assert abcd.rollback().bundle == "A"
    assert [(d.bundle, d.action, d.note) for d in abcd.deployments()[3:]] == [
        ("B", Action.ROLLBACK, "C is slow"),
        ("A", Action.ROLLBACK, ""),
    ]
    with pytest.raises(UsageError, match="nothing was served before 'A'"):
        abcd.rollback()
    assert abcd.active_bundle() == abcd.bundle("A")


def test_a_promotion_after_a_rollback_goes_on_from_there(abcd: Registry) -> None:
    for name in "ABC":
        abcd.promote(name)
    abcd.rollback()
    abcd.promote("D")
    assert abcd.rollback_target().name == "B"
    assert [abcd.rollback().bundle, abcd.rollback().bundle] == ["B", "A"]


def test_a_rollback_to_another_bundle_than_the_checked_one_is_refused(abcd: Registry) -> None:
    abcd.promote("A")
    abcd.promote("B")
    checked = abcd.rollback_target().name
    abcd.promote("C")  # by somebody else
    with pytest.raises(UsageError, match="now leads to 'B', not to 'A'"):
        abcd.rollback(expected=checked)
    assert abcd.active_bundle() == abcd.bundle("C")
    assert abcd.rollback(expected="B").bundle == "B"


def test_an_unknown_bundle_is_answered_with_close_names(abcd: Registry) -> None:
    abcd.record_bundle(name="demo-1", run="demo", path="/x", manifest_sha256="", spec_hash="", metrics={})
    with pytest.raises(
        NotFoundError, match=r"no bundle 'demo1': did you mean demo-1\? The registry has demo-1, D, C, B, A"
    ):
        abcd.promote("demo1")
    assert abcd.active_bundle() is None
