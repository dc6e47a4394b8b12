"""Example users of a report: what they did last, what the model recommends, and what they did next."""

from dataclasses import dataclass

import numpy as np

from rf_platform.dataset import Dataset
from rf_training.evaluation.cases import EvaluationCases
from rf_training.evaluation.sequences import Split
from rf_training.model_scorer import ModelScorer

USERS, LATEST, BEST = 5, 5, 10
"""Users that are shown, interactions of each, and recommendations."""


@dataclass(frozen=True, kw_only=True)
class ShownItem:
    """An item as people read it."""

    item: str
    """Id of the item."""
    title: str
    """Its first display field with a value; its id without one."""
    hit: bool = False
    """Whether it is what the user chose next."""


@dataclass(frozen=True, kw_only=True)
class ExampleUser:
    """A user at the moment before the validation target."""

    user: str
    """Id of the user."""
    events: int
    """Events of the history, of which the latest are shown."""
    latest: list[ShownItem]
    """Latest interactions, oldest first."""
    target: ShownItem
    """Choice that was held out."""
    rank: int
    """Rank of that choice, seen items excluded."""
    best: list[ShownItem]
    """Recommendations, best first, seen items excluded."""


def example_users(model: ModelScorer, dataset: Dataset) -> list[ExampleUser]:
    """Return users with short to long histories: those at equal steps through the validation cases, by length.

    Raises:
        RunError: the validation split is empty.
    """
    cases = EvaluationCases.from_sequences(
        dataset.sequences, n_items=dataset.n_items, split=Split.VALIDATION, trained=dataset.trained_items
    )
    order = np.argsort(cases.stops - cases.starts, kind="stable")
    chosen = order[np.unique(np.linspace(0, len(order) - 1, USERS).round().astype(np.int64))]
    titles, ids = _titles(dataset), dataset.item_ids

    def shown(row: int, target: int) -> ShownItem:
        return ShownItem(item=str(ids[row]), title=titles.get(row, str(ids[row])), hit=row == target)

    found = []
    for case in chosen.tolist():
        history = cases.histories(case, case + 1)
        scores_N = np.array(model.scores(cases.users[case : case + 1], history)[0])
        target = int(cases.targets[case])
        seen = np.setdiff1d(cases.seen(case, case + 1)[1], [target])
        scores_N[seen] = -np.inf
        found.append(
            ExampleUser(
                user=str(dataset.user_ids[cases.users[case]]),
                events=len(history.values),
                latest=[shown(row, target) for row in history.values[-LATEST:].tolist()],
                target=shown(target, target),
                rank=1 + int((scores_N > scores_N[target]).sum()),
                best=[shown(row, target) for row in np.argsort(-scores_N, kind="stable")[:BEST].tolist()],
            )
        )
    return found


def _titles(dataset: Dataset) -> dict[int, str]:
    """Return the titles of items by row, of those that have one."""
    names = [f.name for f in dataset.spec.carried("item") if f.role == "display"]
    if not names:
        return {}
    table = dataset.items.select(names).take(dataset.current_items)
    titles: dict[int, str] = {}
    for name in names:
        for row, value in enumerate(table[name].to_pylist()):
            if value not in (None, "") and row not in titles:
                titles[row] = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return titles
