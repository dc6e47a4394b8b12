"""A challenger with a part of the users, and a shadow, beside the served bundle."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rf_platform.errors import CorruptError, NotFoundError, UsageError
from rf_platform.registry import BundleRecord, Registry, TrafficRecord, split
from rf_platform.registry import shadow as start_shadow


@pytest.fixture
def served(with_run: Registry, make_bundle: Callable[[str], BundleRecord]) -> Registry:
    """Bundles ``demo-1`` to ``demo-3``; ``demo-1`` is served."""
    for n in (1, 2, 3):
        make_bundle(f"demo-{n}")
    with_run.promote("demo-1")
    return with_run


def test_nothing_stands_beside_the_served_bundle_at_first(served: Registry) -> None:
    assert served.traffic.now() == TrafficRecord()
    plan = served.traffic.plan()
    assert plan.active is not None
    assert (plan.active.name, plan.challenger, plan.shadow, plan.revision) == ("demo-1", None, None, (1, 0, 0))


def test_a_split_keeps_its_salt_while_it_grows(served: Registry) -> None:
    first = served.traffic.split("demo-2", 10)
    more = served.traffic.split("demo-2", 50, "looks good")
    assert (more.challenger, more.percent, more.note) == ("demo-2", 50, "looks good")
    assert more.salt == first.salt != ""
    assert served.traffic.split("demo-3", 10).salt != first.salt
    plan = served.traffic.plan()
    assert plan.challenger is not None
    assert (plan.challenger.name, plan.revision) == ("demo-3", (1, 3, 0))


@pytest.mark.parametrize("percent", [0, -1, 100, 250])
def test_a_percentage_has_to_be_a_part(served: Registry, percent: float) -> None:
    with pytest.raises(UsageError, match=f"--percent {percent:g} is no share"):
        served.traffic.split("demo-2", percent)


@pytest.mark.parametrize("share", [0, -0.1, 1.1])
def test_a_shadow_needs_a_share(served: Registry, share: float) -> None:
    with pytest.raises(UsageError, match=f"--share {share:g} is no share"):
        served.traffic.shadow("demo-2", share)


def test_the_served_bundle_cannot_stand_beside_itself(served: Registry) -> None:
    with pytest.raises(UsageError, match="'demo-1' is the served bundle itself"):
        served.traffic.split("demo-1", 10)
    with pytest.raises(UsageError, match="'demo-1' is the served bundle itself"):
        served.traffic.shadow("demo-1", 0.5)
    with pytest.raises(NotFoundError, match="demo-9"):
        served.traffic.split("demo-9", 10)


def test_a_split_and_a_shadow_are_independent(served: Registry) -> None:
    served.traffic.split("demo-2", 10)
    both = served.traffic.shadow("demo-3", 0.5)
    assert (both.challenger, both.percent, both.shadow, both.share) == ("demo-2", 10, "demo-3", 0.5)
    assert served.traffic.end_split() == "demo-2"
    left = served.traffic.now()
    assert (left.challenger, left.percent, left.shadow, left.share) == (None, 0, "demo-3", 0.5)
    assert served.traffic.end_split() is None
    assert served.traffic.shadow(None, 0).shadow is None


def test_a_promotion_ends_the_split_and_the_shadow_of_what_it_promotes(served: Registry) -> None:
    served.traffic.split("demo-2", 10)
    served.traffic.shadow("demo-3", 0.5)
    served.promote("demo-2")
    assert (served.traffic.now().challenger, served.traffic.now().shadow) == (None, "demo-3")
    served.promote("demo-3")
    assert served.traffic.now().shadow is None


def test_promoting_the_served_bundle_gives_it_all_users_again(served: Registry) -> None:
    served.traffic.split("demo-2", 10)
    assert served.promote("demo-1").id == 1
    assert served.traffic.now().challenger is None


def test_a_rollback_leaves_no_split(served: Registry) -> None:
    served.promote("demo-2")
    served.traffic.split("demo-3", 10)
    served.rollback()
    assert served.traffic.now().challenger is None


def test_damaged_bundles_stand_beside_nothing(served: Registry, home: Path) -> None:
    (home / "bundles" / "demo-2" / "vectors.npy").write_bytes(b"x")
    with pytest.raises(CorruptError, match="demo-2"):
        split(served, "demo-2", 10)
    with pytest.raises(CorruptError, match="demo-2"):
        start_shadow(served, "demo-2", 0.5)
    assert served.traffic.now() == TrafficRecord()


def test_commands_show_and_end_what_stands_beside(
    served: Registry, registry_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rf_platform.settings import get_settings
    from rf_serving.commands.deployment import rollback_app, shadow_app

    monkeypatch.setenv("RF_REGISTRY_URL", registry_url)
    get_settings.cache_clear()
    served.traffic.split("demo-2", 12.5)
    served.traffic.shadow("demo-3", 0.25)
    shown = CliRunner().invoke(shadow_app, ["--json"], catch_exceptions=False)
    state = json.loads(shown.output)
    assert (state["served"], state["challenger"], state["percent"]) == ("demo-1", "demo-2", 12.5)
    text = CliRunner().invoke(shadow_app, ["--stop"], catch_exceptions=False).output
    assert text == "serving demo-1; challenger demo-2 answers 12.5% of the users\n"
    text = CliRunner().invoke(rollback_app, [], catch_exceptions=False).output
    assert text == "the challenger demo-2 is withdrawn: demo-1 answers all users again\n"
    assert served.deployments()[-1].bundle == "demo-1"
