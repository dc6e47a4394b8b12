"""Canary of each view: is what it tells of the taken item there a day later, and what would it tell a day earlier?

Every event is given, beside the row of a view that held just before it, the row of a day later (as if the view's times were
a day too early) and of a day earlier (as if they were a day late). A view that tells more a day ahead is made of what happens. If
it tells as much a day behind, nothing of that is seen with the times that it has: they are right. If it tells less, it lives from
values of the last day, and these have to have been there before the event.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from scipy.stats import t as student

from rf_platform.dataset.build import DatasetBuilder
from rf_platform.dataset.canaries.probe import Floats, Ints, ItemProbe, UserProbe, told_apart
from rf_platform.dataset.canaries.sample import Sample
from rf_platform.features.read import ViewSource

DAY_US = 86_400_000_000
_CONFIDENCE = 0.99
_MATTERS = 0.005
"""Difference of the probability below which a view is taken for unchanged."""


class Finding(StrEnum):
    """Finding of a view that was moved by a day."""

    STILL = "does not move"
    """Its rows are the same a day later and a day earlier, so nothing is learned about its times."""
    CLEAN = "nothing to see"
    FORESEES = "would leak, does not"
    """A day ahead lifts the validation, a day behind changes nothing."""
    RECENT = "lives from the last day"
    """A day behind lowers the validation."""

    @property
    def suspect(self) -> bool:
        """Whether somebody has to look at the view."""
        return self is Finding.RECENT


@dataclass(frozen=True, kw_only=True)
class Shift:
    """Effect of moving a view."""

    moved: float
    """Share of the validation events that see another row."""
    value: float
    """Difference of the probability to the view as it is."""
    low: float
    high: float
    """99% interval of the difference, for users drawn at random."""

    @property
    def lifts(self) -> bool:
        """Whether it is more, beyond chance."""
        return self.low > 0 and self.value >= _MATTERS

    @property
    def lowers(self) -> bool:
        """Whether it is less, beyond chance."""
        return self.high < 0 and self.value <= -_MATTERS


@dataclass(frozen=True, kw_only=True)
class Canary:
    """Result for one view."""

    view: str
    fields: list[str]
    events: int
    """Validation events."""
    knows: float
    """Probability that the taken item has a higher score than an item as popular, by this view alone; 0.5 is chance."""
    ahead: Shift
    behind: Shift

    @property
    def finding(self) -> Finding:
        """Finding by the two shifts."""
        if not self.ahead.moved and not self.behind.moved:
            return Finding.STILL
        if self.behind.lowers:
            return Finding.RECENT
        return Finding.FORESEES if self.ahead.lifts else Finding.CLEAN

    @property
    def sentence(self) -> str:
        """The finding in words."""
        ahead, behind = (f"{each.value:+.3f} [{each.low:+.3f}, {each.high:+.3f}]" for each in (self.ahead, self.behind))
        match self.finding:
            case Finding.STILL:
                return f"{self.view}: no event sees another row a day later or earlier, so its times cannot be judged"
            case Finding.RECENT:
                return (
                    f"{self.view}: a day behind lowers the validation ({behind}): it lives from values of the last day. If they "
                    f"are written before the event, it is a fresh view; if they are counted or stamped after it, this is a leak. "
                    f"Look at when its rows become known, and give it a created timestamp"
                )
            case Finding.FORESEES:
                return (
                    f"{self.view}: a day ahead lifts the validation ({ahead}), and a day behind changes nothing: it is made of "
                    f"what happens, and its times keep that out. It would leak if they were a day early, such as dates in place "
                    f"of the time of the load"
                )
            case _:
                return f"{self.view}: neither a day ahead ({ahead}) nor a day behind ({behind}) changes anything that matters"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        said = {"finding": self.finding.value, "suspect": self.finding.suspect, "sentence": self.sentence}
        return {**asdict(self), **said}


def canaries(builder: DatasetBuilder, views: Sequence[str] = (), seed: int = 0) -> list[Canary]:
    """Move every view of users and items by a day in both directions, one at a time.

    Args:
        builder: of the workspace, with the log read.
        views: only these; empty: all.
        seed: of the events that are drawn, and of the items that they are held against.

    Raises:
        DataError: there are no validation events.
    """
    sample = Sample(builder, seed)
    chosen = [s for s in builder.sources if s.side != "context" and sample.fields(s) and (not views or s.view in views)]
    measures = {"user": _of_users(sample), "item": _of_items(sample)}
    return [_canary(sample, source, measures[source.side]) for source in chosen]


_Measure = Callable[[ViewSource, int], tuple[Floats, Ints]]
"""Measures a view that is looked up some microseconds after each event: by validation event, the share of the candidates that the
taken one is scored above, and the row that is seen."""


def _of_users(sample: Sample) -> _Measure:
    attributes_IA = sample.attributes()

    def measure(source: ViewSource, look_us: int) -> tuple[Floats, Ints]:
        rows = sample.coded(source).rows
        before, now = (sample.of_users(source, part, look_us) for part in (sample.training, sample.validation))
        probe = UserProbe.learn(rows[before], sample.training.candidates_EC[:, 0], attributes_IA)
        return told_apart(probe.scores(rows[now], sample.validation.candidates_EC)), now

    return measure


def _of_items(sample: Sample) -> _Measure:
    count = sample.validation.candidates_EC.shape[1]

    def measure(source: ViewSource, look_us: int) -> tuple[Floats, Ints]:
        rows = sample.coded(source).rows
        before, now = (sample.of_items(source, part, look_us) for part in (sample.training, sample.validation))
        probe = ItemProbe.learn(rows[before[0::2]], rows[before[1::2]])
        return told_apart(probe.scores(rows[now], count)), now[::count]

    return measure


def _canary(sample: Sample, source: ViewSource, measure: _Measure) -> Canary:
    user_E = sample.validation.user_E
    now = measure(source, 0)
    return Canary(
        view=source.view,
        fields=[f.field for f in sample.fields(source)],
        events=len(user_E),
        knows=float(now[0].mean()),
        ahead=_shift(now, measure(source, DAY_US), user_E),
        behind=_shift(now, measure(source, -DAY_US), user_E),
    )


def _shift(now: tuple[Floats, Ints], moved: tuple[Floats, Ints], user_E: Ints) -> Shift:
    """Return the mean difference, with an interval for users drawn at random, each with all of their events."""
    difference = moved[0] - now[0]
    mean = float(difference.mean())
    residual_U = np.bincount(np.unique(user_E, return_inverse=True)[1], difference - mean)
    users = len(residual_U)
    half = np.inf
    if users > 1:
        error = float(np.sqrt(users / (users - 1) * (residual_U**2).sum()) / len(difference))
        half = float(student.ppf(0.5 + _CONFIDENCE / 2, users - 1)) * error
    return Shift(moved=float(np.mean(now[1] != moved[1])), value=mean, low=mean - half, high=mean + half)
