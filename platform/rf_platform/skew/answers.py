"""Ages and item figures of logged answers, and the limits that earlier stretches of the serving log give them.

The training split says nothing of scores, of the items that a model shows, or of how old rows are when a server reads them. Their
own past does: the log is cut into stretches as long as the one that is looked at. A stretch is drawn, and of its users as many as
there are now, with all their answers, 200 times; a limit is what one draw in a hundred lies beyond.

Shapes: A answers, I items of all answers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from rf_platform.serving_log import moment_column

_DRAWS, _CHANCE = 200, 0.99
_LEAST_ANSWERS = 100
"""Answers of a stretch that says anything."""
AGE, COVERAGE, SCORES = "age_seconds", "item_coverage", ("score_mean", "score_deviation")
_QUANTILES = (0.5, 0.99)


class Figure(NamedTuple):
    """Name of a figure."""

    name: str
    view: str = ""
    """Of an age."""
    quantile: float = 0.0


class Limits(NamedTuple):
    """Limits of a figure; None: it has none on that side."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Answers:
    """Answers of one stretch of the log, as arrays."""

    user_A: npt.NDArray[np.int64]
    """Number of the user or session."""
    age_A: dict[str, npt.NDArray[np.float64]]
    """By view: seconds since the event timestamp of the row that was read; not a number where there was none."""
    newest: dict[str, int]
    """By view: newest event timestamp that was read, in microseconds since 1970."""
    cold_A: npt.NDArray[np.bool_]
    answer_I: npt.NDArray[np.int64]
    item_I: npt.NDArray[np.int64]
    """Number of the item, by its first appearance in this stretch."""
    score_I: npt.NDArray[np.float64]
    popular_I: npt.NDArray[np.bool_]
    catalog: int
    """Items of the catalog."""

    @classmethod
    def of(cls, table: pa.Table, views: Sequence[str], popular: Sequence[str], catalog: int) -> "Answers":
        """Read records of the serving log.

        Args:
            table: the records.
            views: those with ages that are wanted.
            popular: ids of the popular items.
            catalog: number of items of the catalog.
        """
        subjects = pc.coalesce(table["user_id"], pc.binary_join_element_wise("session", table["session_id"], ":"))
        times = table["time"].cast(pa.int64()).to_numpy()
        ages, newest = {}, {}
        for view in views:
            if (name := moment_column(view)) not in table.column_names:
                continue
            read = table[name].cast(pa.int64())
            if read.null_count < len(read):
                ages[view] = (times - read.cast(pa.float64()).fill_null(np.nan).to_numpy()) / 1e6
                newest[view] = pc.max(read).as_py()
        lists = table["items"].combine_chunks()
        items = lists.flatten()
        ids = items.field("item_id").dictionary_encode()
        item_I = ids.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        known = pc.is_in(ids.dictionary, pa.array(popular, pa.string())).to_numpy(zero_copy_only=False)
        lengths = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        return cls(
            user_A=subjects.combine_chunks()
            .dictionary_encode()
            .indices.fill_null(0)
            .to_numpy(zero_copy_only=False)
            .astype(np.int64),
            age_A=ages,
            newest=newest,
            cold_A=table["cold"].fill_null(False).to_numpy().astype(np.bool_),
            answer_I=np.repeat(np.arange(table.num_rows), lengths),
            item_I=item_I,
            score_I=items.field("score").to_numpy(zero_copy_only=False).astype(np.float64),
            popular_I=known.astype(np.bool_)[item_I],
            catalog=catalog,
        )

    @property
    def users(self) -> int:
        """Number of users and sessions."""
        return int(self.user_A.max(initial=-1)) + 1

    def figures(self, times_A: npt.NDArray[np.int64] | None = None) -> dict[Figure, float]:
        """Return all figures; each answer counts ``times_A`` times, or once."""
        times_A = np.ones(len(self.user_A), np.int64) if times_A is None else times_A
        found: dict[Figure, float] = {}
        for view, age_A in self.age_A.items():
            ages = np.repeat(age_A, times_A)
            ages = ages[~np.isnan(ages)]
            if len(ages):
                values = np.quantile(ages, _QUANTILES).tolist()
                found |= {Figure(AGE, view, q): value for q, value in zip(_QUANTILES, values, strict=True)}
        times_I = times_A[self.answer_I]
        if shown := int(times_I.sum()):
            mean = float(times_I @ self.score_I) / shown
            spread = float(times_I @ (self.score_I - mean) ** 2) / shown
            distinct = int(np.count_nonzero(np.bincount(self.item_I, times_I)))
            found |= {
                Figure(SCORES[0]): mean,
                Figure(SCORES[1]): spread**0.5,
                Figure("popular_share"): float(times_I @ self.popular_I) / shown,
                Figure(COVERAGE): distinct / max(1, self.catalog),
                Figure("cold_answers_share"): float(times_A @ self.cold_A) / int(times_A.sum()),
            }
        return found


def past_limits(now: Answers, past: Sequence[Answers], random: np.random.Generator) -> dict[Figure, Limits]:
    """Return the limits of figures by earlier stretches of the log.

    Scores have limits on both sides, the coverage has a least value, all others a largest one. A view of which no stretch, with
    this one, has a newer row than the one before has no limit: it may be one that does not change, and only grows older.

    Args:
        now: the answers that are looked at.
        past: earlier stretches, in any order; those with fewer than 100 answers are left out.
        random: of the draws.
    """
    past = [each for each in past if len(each.user_A) >= _LEAST_ANSWERS]
    if not past:
        return {}
    drawn: dict[Figure, list[float]] = {}
    for number in random.integers(len(past), size=_DRAWS).tolist():
        stretch = past[number]
        times_U = np.bincount(random.integers(stretch.users, size=max(1, now.users)), minlength=stretch.users)
        for figure, value in stretch.figures(times_U[stretch.user_A]).items():
            drawn.setdefault(figure, []).append(value)
    still = {
        view for view in now.newest if len({each.newest[view] for each in (now, *past) if view in each.newest}) == 1
    }
    found = {}
    for figure, values in drawn.items():
        least, most = np.quantile(values, (1 - _CHANCE, _CHANCE)).tolist()
        if figure.view not in still:
            found[figure] = Limits(
                least=least if figure.name in (*SCORES, COVERAGE) else None,
                most=None if figure.name == COVERAGE else most,
            )
    return found
