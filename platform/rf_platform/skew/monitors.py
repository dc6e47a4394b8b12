"""Monitors: distributions of what is served and stored beside the training split, with limits that the split itself gives."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from rich.table import Table

from rf_platform.dataset import Dataset
from rf_platform.errors import NotFoundError
from rf_platform.features.expiry import now_us
from rf_platform.features.spec import FieldSpec
from rf_platform.features.vocabulary import UNKNOWN_ID
from rf_platform.serving_log import ServingParts
from rf_platform.skew.answers import Answers, Limits, past_limits
from rf_platform.skew.distances import Bins, Sample, jensen_shannon, limits, psi, rate_limit, unknown_limit
from rf_platform.skew.samples import ServedSamples, TrainingSamples, earlier_answers, stored, watched

if TYPE_CHECKING:
    from feast import FeatureStore

HISTORY_LENGTH = "history length"
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, kw_only=True)
class Gauge:
    """One figure, with the limit beyond which chance is no explanation."""

    name: str
    """``psi``, ``jensen_shannon``, ``missing_share``, ``unknown_share``, ``age_seconds``, or one of the items of answers."""
    labels: Mapping[str, str]
    value: float
    limit: float | None = None
    """Largest value that chance explains; None: nothing says what it is."""
    least: float | None = None
    """The same on the other side."""

    @property
    def over(self) -> bool:
        """Whether it lies beyond a limit."""
        return (self.limit is not None and self.value > self.limit) or (
            self.least is not None and self.value < self.least
        )


@dataclass(frozen=True, kw_only=True)
class MonitorReport:
    """All figures."""

    dataset: str
    answers: int
    gauges: Sequence[Gauge] = field(default_factory=tuple)

    @property
    def over(self) -> list[Gauge]:
        """Figures beyond their limits."""
        return [each for each in self.gauges if each.over]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        gauges = [{**asdict(each), "labels": dict(each.labels), "over": each.over} for each in self.gauges]
        return {"dataset": self.dataset, "answers": self.answers, "over": len(self.over), "gauges": gauges}


@dataclass(frozen=True, kw_only=True)
class MonitorOptions:
    """Sizes of the samples."""

    hours: float = 24.0
    """Only answers of the last hours."""
    most: int = 20_000
    """Most answers; of more, as many are drawn."""
    users: int = 500
    """Users that are read from the online store."""
    seed: int = 0


def monitor(
    parts: ServingParts, dataset: Dataset, store: "FeatureStore | None", options: MonitorOptions | None = None
) -> MonitorReport:
    """Measure what was served and what is stored against a dataset's training split.

    Args:
        parts: the serving log.
        dataset: has the training split.
        store: the feature store; None: it is not asked.
        options: sizes of the samples.

    Raises:
        NotFoundError: nothing was logged.
    """
    options = options or MonitorOptions()
    now, length = now_us(), int(options.hours * _HOUR_US)
    served = ServedSamples(parts, now - length, dataset.spec, options.most, options.seed)
    if served.table is None:
        raise NotFoundError(
            f"no answer of the last {options.hours:g} hours is in the serving log {parts.directory}; run the server with "
            f"`rf serve --log-share 1`, or look further back with --hours"
        )
    measuring = _Monitor(dataset, served, np.random.default_rng(options.seed))
    past = earlier_answers(parts, now - length, length, options.most, options.seed)
    gauges = [*measuring.fields(), *measuring.answers(past)]
    if store is not None:
        gauges += measuring.store(store, options.users)
    return MonitorReport(dataset=dataset.name, answers=served.table.num_rows, gauges=gauges)


class _Monitor:
    def __init__(self, dataset: Dataset, served: ServedSamples, random: np.random.Generator) -> None:
        self._dataset, self._served, self._random = dataset, served, random
        self._training = TrainingSamples(dataset)

    def fields(self) -> list[Gauge]:
        """Return distances, and shares of missing and unknown values, of what was served."""
        gauges: list[Gauge] = []
        for f in watched(self._dataset.spec):
            if (sample := self._served.of(f)) is not None and len(sample.values):
                training = self._training.of(f)
                gauges += self._distances(f.name, "served", training, sample, numeric=f.domain is None)
                gauges += self._unknown(f, training, sample)
        if (lengths := self._served.lengths()) is not None:
            gauges += self._distances(HISTORY_LENGTH, "served", self._training.lengths(), lengths, numeric=True)
        return gauges

    def store(self, store: "FeatureStore", users: int) -> list[Gauge]:
        """Return the same of what the online store has, a value for each user."""
        spec = self._dataset.spec
        fields = [f for f in watched(spec) if f.role != "history"]
        ids = self._dataset.user_ids
        drawn = self._random.choice(ids, min(users, len(ids)), replace=False).tolist()
        gauges: list[Gauge] = []
        for name, sample in stored(store, fields, spec.user.join_key, drawn).items():
            f = spec.field(name)
            gauges += self._distances(name, "stored", self._training.newest(f), sample, numeric=f.domain is None)
        return gauges

    def answers(self, past: Sequence[pa.Table]) -> list[Gauge]:
        """Return the ages of rows when they were read, and scores, popularity and coverage of the items of answers."""
        spec, counts = self._dataset.spec, self._dataset.training_counts.of_item
        views = sorted({f.view for f in (*spec.inputs("user"), *spec.history)})
        popular = np.argsort(-counts, kind="stable")[: max(1, len(counts) // 100)]
        ids = [str(each) for each in self._dataset.item_ids[popular].tolist()]
        assert self._served.table is not None
        now, *before = (Answers.of(table, views, ids, len(counts)) for table in (self._served.table, *past))
        limited = past_limits(now, before, self._random)
        gauges = []
        for figure, value in now.figures().items():
            labels = {"view": figure.view, "quantile": str(figure.quantile)} if figure.view else {}
            least, most = limited.get(figure, Limits())
            gauges.append(Gauge(name=figure.name, labels=labels, value=value, limit=most, least=least))
        return gauges

    def _distances(self, name: str, of: str, training: Sample, sample: Sample, *, numeric: bool) -> list[Gauge]:
        bins = Bins.of(training, numeric=numeric)
        by_user = bins.by_user(training)
        reference = by_user.sum(axis=0)
        counts = bins.by_user(sample).sum(axis=0)
        users = len(set(sample.users))
        most_psi, most_js = limits(by_user, users, self._random)
        labels = {"field": name, "of": of}
        missing = bins.count - 1
        share = float(counts[missing] / max(counts.sum(), 1e-300))
        most_missing = rate_limit(by_user, missing, users, self._random)
        return [
            Gauge(name="psi", labels=labels, value=psi(counts, reference), limit=most_psi),
            Gauge(name="jensen_shannon", labels=labels, value=jensen_shannon(counts, reference), limit=most_js),
            Gauge(name="missing_share", labels=labels, value=share, limit=most_missing),
        ]

    def _unknown(self, f: FieldSpec, training: Sample, sample: Sample) -> list[Gauge]:
        """Return the share of values that the vocabulary does not know; of a hashed domain there is none."""
        vocabularies = self._dataset.encoder.vocabularies
        if f.domain is None or vocabularies[f.domain].domain.buckets is not None:
            return []
        _, values, _ = sample.flat
        present = [v for v in values if v is not None]
        ids: npt.NDArray[np.int64] = vocabularies[f.domain].encode_plain(present)
        share = float(np.mean(ids == UNKNOWN_ID)) if len(ids) else 0.0
        labels = {"field": f.name, "domain": f.domain}
        return [Gauge(name="unknown_share", labels=labels, value=share, limit=unknown_limit(training, self._random))]


def monitor_table(report: MonitorReport) -> Table:
    """Return the figures as a table, those beyond their limits first."""
    table = Table("figure", "of", "value", "limit", "")
    for each in sorted(report.gauges, key=lambda gauge: not gauge.over):
        of = ", ".join(each.labels.values())
        limits_of = limits_text(each.least, each.limit)
        table.add_row(each.name, of, f"{each.value:.4g}", limits_of, "[bold red]over[/]" if each.over else "")
    return table


def limits_text(least: float | None, most: float | None) -> str:
    """Return limits in words."""
    if least is not None and most is not None:
        return f"{least:.4g} to {most:.4g}"
    return f"at least {least:.4g}" if least is not None else "" if most is None else f"{most:.4g}"


_HELP = {
    "psi": "Population stability index between training split and what was served or is stored.",
    "jensen_shannon": "Jensen-Shannon distance between the same two.",
    "missing_share": "Share of values that are missing.",
    "unknown_share": "Share of values that the vocabulary does not know.",
    "age_seconds": "Age of the rows of a view when they were read.",
    "score_mean": "Mean score of the items of answers.",
    "score_deviation": "Standard deviation of these scores.",
    "popular_share": "Share of the items of answers that are among the hundredth with most training events.",
    "item_coverage": "Share of the catalog that answers had.",
    "cold_answers_share": "Share of answers without a history.",
}


def prometheus(report: MonitorReport) -> str:
    """Return the figures in Prometheus' text format, for the textfile collector; limits as ``_limit`` and ``_least``."""
    lines: list[str] = []
    for name, said in _HELP.items():
        gauges = [each for each in report.gauges if each.name == name]
        for suffix, of in (("", "value"), ("_limit", "limit"), ("_least", "least")):
            shown = [(each.labels, getattr(each, of)) for each in gauges if getattr(each, of) is not None]
            if not shown:
                continue
            metric = f"rf_skew_{name}{suffix}"
            lines += [f"# HELP {metric} {said}{' Limit by chance.' if suffix else ''}", f"# TYPE {metric} gauge"]
            for labels, value in shown:
                written = ",".join(f'{key}="{text}"' for key, text in labels.items())
                lines.append(f"{metric}{{{written}}} {value!r}" if written else f"{metric} {value!r}")
    lines += [
        "# HELP rf_skew_measured_timestamp_seconds When this was measured.",
        "# TYPE rf_skew_measured_timestamp_seconds gauge",
        f"rf_skew_measured_timestamp_seconds {now_us() / 1e6!r}",
    ]
    return "\n".join(lines) + "\n"
