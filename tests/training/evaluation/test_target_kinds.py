import io

import numpy as np
import numpy.typing as npt
import pytest
from rich.console import Console

from rf_platform.dataset import Dataset
from rf_platform.features.event_weights import EventWeights
from rf_training.evaluation import (
    EvaluationReport,
    EventSequences,
    Jagged,
    Split,
    evaluate,
    report_markdown,
    report_tables,
)
from rf_training.targets.event_types import EventTypes
from rf_training.targets.weights import TargetWeights

N_ITEMS = 50
USERS = [[0, 1, 40], [0, 1, 2], [0, 1, 0], [0, 1, 45], [1, 2, 1]]
"""The last event is the test target: new for the users 0, 1 and 3, seen before by 2 and 4."""
TYPES = EventTypes(("buy", "view"), np.array([1, 0]), np.array([0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]))
"""Targets are bought by the users 0 and 2, viewed by the others."""


class ByRow:
    """Ranks items by their row, the first one first."""

    name = "by row"

    def scores(self, users: npt.NDArray[np.int64], histories: Jagged) -> npt.NDArray[np.float32]:
        return np.broadcast_to(-np.arange(N_ITEMS, dtype=np.float32), (len(users), N_ITEMS))


def report(users: list[list[int]] = USERS, types: EventTypes | None = TYPES) -> EvaluationReport:
    sequences = EventSequences.leave_one_out(users)
    return evaluate(sequences, [ByRow()], n_items=N_ITEMS, split=Split.TEST, seed=0, resamples=50, types=types)


def recalls(made: EvaluationReport) -> dict[str, tuple[int, float]]:
    return {kind.name: (kind.cases, kind.results[1].metrics["recall@20"].value) for kind in made.target_kinds}


def test_figures_by_hand() -> None:
    """Items 0 to 2 are found, 40 and 45 are not."""
    assert recalls(report()) == {
        "new to the user": (3, pytest.approx(1 / 3)),
        "seen before": (2, 1.0),
        "view": (3, pytest.approx(2 / 3)),
        "view, new to the user": (2, 0.5),
        "buy": (2, 0.5),
        "buy, new to the user": (1, 0.0),
    }


def test_kinds_are_told_by_type_and_by_what_is_new() -> None:
    kinds = {kind.name: (kind.type, kind.new) for kind in report().target_kinds}
    assert kinds["new to the user"] == (None, True)
    assert kinds["buy"] == ("buy", None)
    assert kinds["buy, new to the user"] == ("buy", True)


def test_targets_count_by_their_weight() -> None:
    """A purchase weighs 3, a view 1: of 3 + 1 + 3 + 1 + 1 the three that are found weigh 1, 3 and 1."""
    weights = TargetWeights(
        EventWeights(types=(("buy", 3.0),)),
        lambda events: np.where(np.isin(np.arange(15)[events], [2, 8]), 3, 1).astype(np.float32),
        1.8,
    )
    sequences = EventSequences.leave_one_out(USERS)
    made = evaluate(
        sequences, [ByRow()], n_items=N_ITEMS, split=Split.TEST, seed=0, resamples=200, types=TYPES, weights=weights
    )
    assert recalls(made) == {"by weight": (5, pytest.approx(5 / 9)), **recalls(report())}
    interval = made.target_kinds[0].results[1].metrics["recall@20"]
    assert 0 <= interval.low < 5 / 9 < interval.high <= 1
    assert "| all (5) | by weight (5) |" in report_markdown(made)


def test_without_types_new_and_seen_targets_are_apart_all_the_same() -> None:
    assert list(recalls(report(types=None))) == ["new to the user", "seen before"]


def test_targets_that_are_all_new_and_of_one_type_need_no_table() -> None:
    made = report([[0, 1, 2], [1, 2, 3]], None)
    assert made.target_kinds == ()
    assert "kind of target" not in report_markdown(made)


def test_types_of_targets_that_are_all_new_have_no_second_column() -> None:
    types = EventTypes(("buy", "view"), np.array([0, 1]), np.array([0, 0, 0, 0, 0, 1]))
    assert list(recalls(report([[0, 1, 2], [1, 2, 3]], types))) == ["new to the user", "buy", "view"]


def test_the_tables_show_them_beside_all() -> None:
    made = report()
    page = report_markdown(made)
    assert "### Test, 3 targets: new to the user, seen items excluded" in page
    assert "| all (5) | new to the user (3) | seen before (2) | view (3) | view, new to the user (2) |" in page
    assert "### Test, 2 targets: buy, seen items excluded" in page
    console = Console(file=io.StringIO(), width=100)
    console.print(report_tables(made))
    assert "Test, 3 targets: new to the user, seen items excluded" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "Test, 2 targets: buy" not in console.file.getvalue()  # type: ignore[attr-defined]


def test_types_of_a_datasets_events_are_those_of_its_log(dataset: Dataset) -> None:
    """Context by context, as the events have it."""
    table = dataset.contexts
    given = [("view", "buy", None, "")[row % 4] for row in range(table.num_rows)]
    other = Dataset(path=dataset.path, manifest=dataset.manifest, spec=dataset.spec)
    place = table.column_names.index("past__event_types")
    other.__dict__["contexts"] = table.set_column(place, "past__event_types", [given])
    types = EventTypes.of(other)
    assert types is not None
    assert types.names == ("buy", "no type", "view")
    events = np.arange(len(dataset.sequences.item))
    expected = [given[row] or "no type" for row in dataset.sequences.context]
    assert [types.names[code] for code in types.codes(events)] == expected
