"""Experiments in the registry."""

from collections.abc import Callable

import pytest

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.registry import BundleRecord, Registry

SETTINGS = {"outcome": ["purchase"], "users": 1000}


@pytest.fixture
def served(with_run: Registry, make_bundle: Callable[[str], BundleRecord]) -> Registry:
    """Bundles ``demo-1`` to ``demo-3``; ``demo-1`` is served."""
    for n in (1, 2, 3):
        make_bundle(f"demo-{n}")
    with_run.promote("demo-1")
    return with_run


def test_an_experiment_is_that_of_the_split(served: Registry) -> None:
    with pytest.raises(UsageError, match="no challenger has a part of the users"):
        served.experiments.start("one", SETTINGS)
    split = served.traffic.split("demo-2", 10)
    begun = served.experiments.start("one", SETTINGS, "why not")
    assert (begun.control, begun.challenger, begun.percent, begun.salt) == ("demo-1", "demo-2", 10, split.salt)
    assert (begun.settings, begun.note, begun.running) == (SETTINGS, "why not", True)
    assert served.experiments.running() == begun == served.experiments.get() == served.experiments.get("one")


def test_the_split_of_an_experiment_is_not_changed(served: Registry) -> None:
    served.traffic.split("demo-2", 10)
    served.experiments.start("one", SETTINGS)
    for name in ("demo-2", "demo-3"):
        with pytest.raises(UsageError, match="experiment 'one' is running"):
            served.traffic.split(name, 50)
    with pytest.raises(UsageError, match="experiment 'one' is running"):
        served.experiments.start("two", SETTINGS)
    assert served.traffic.now().percent == 10
    served.traffic.shadow("demo-3", 0.5)  # a shadow changes no answer
    assert served.experiments.running() is not None


def test_stopping_gives_the_users_back_and_keeps_the_verdict(served: Registry) -> None:
    served.traffic.split("demo-2", 10)
    served.experiments.start("one", SETTINGS)
    ended = served.experiments.stop("harm", "It does harm.", "taken back")
    assert (ended.finding, ended.sentence, ended.running) == ("harm", "It does harm.", False)
    assert (served.traffic.now().challenger, served.traffic.now().note) == (None, "taken back")
    with pytest.raises(UsageError, match="no experiment is running"):
        served.experiments.stop("harm", "")
    served.traffic.split("demo-2", 10)
    with pytest.raises(UsageError, match="there was an experiment 'one' before"):
        served.experiments.start("one", SETTINGS)
    served.experiments.start("two", SETTINGS)
    assert [(each.name, each.running) for each in served.experiments.history()] == [("one", False), ("two", True)]


@pytest.mark.parametrize(
    ("end", "sentence"),
    [
        (lambda r: r.promote("demo-2"), "demo-2 was promoted."),
        (lambda r: r.promote("demo-3"), "demo-3 was promoted."),
        (lambda r: r.traffic.end_split(), "The challenger was withdrawn."),
    ],
)
def test_an_experiment_ends_with_its_split(served: Registry, end: Callable[[Registry], object], sentence: str) -> None:
    served.traffic.split("demo-2", 10)
    served.experiments.start("one", SETTINGS)
    end(served)
    assert served.experiments.running() is None
    assert (served.experiments.get("one").finding, served.experiments.get("one").sentence) == ("withdrawn", sentence)


def test_an_experiment_that_is_not_there_is_named(served: Registry) -> None:
    with pytest.raises(NotFoundError, match="there was no experiment yet"):
        served.experiments.get()
    served.traffic.split("demo-2", 10)
    served.experiments.start("one", SETTINGS)
    with pytest.raises(NotFoundError, match="no experiment 'two': one"):
        served.experiments.get("two")
