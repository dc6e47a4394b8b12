"""Replay: for logged requests, the row that a training at that microsecond would see, field by field beside what was served."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.features.expiry import as_time, now_us
from rf_platform.features.read import FeatureDefinitions
from rf_platform.features.spec import FeatureSpec, FieldSpec
from rf_platform.serving_log import ServingParts, moment_column, value_column
from rf_platform.settings import Settings
from rf_platform.skew.causes import RENAMED
from rf_platform.skew.difference import EQUAL, Difference, Status, Version, compare, plain
from rf_platform.skew.encoders import EncoderPair
from rf_platform.skew.histories import compare_history
from rf_platform.skew.report import Example, FieldReport, ReplayReport
from rf_platform.skew.truth import EventTruth, Requests, Truth, ViewTruth, truth_of

_HOUR_US = 3_600_000_000
_SHOWN = 80
_TIME = "(event timestamp)"


@dataclass(frozen=True, kw_only=True)
class ReplayOptions:
    """Requests to replay, and differences to accept."""

    hours: float = 24.0
    """Only requests of the last hours."""
    most: int = 2000
    """Most requests; of more, as many are drawn at random, alike for one seed."""
    seed: int = 0
    bundle: str | None = None
    """Only answers of this bundle."""
    grace_seconds: float = 60.0
    """Age up to which a stale or missing value is accepted: events and loads take a moment."""
    allowed: float = 0.0
    """Largest accepted share of differences of a field."""
    allowed_by_field: Mapping[str, float] = field(default_factory=dict)
    """The same for single fields, by full name."""
    examples: int = 3
    """Examples of each field."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, share in {"--allow": self.allowed, **self.allowed_by_field}.items():
            if not 0 <= share <= 1:
                raise UsageError(f"{name}={share:g} is no share; give a number from 0 to 1")


def replay(
    settings: Settings,
    definitions: FeatureDefinitions,
    encoders: Mapping[str, EncoderPair],
    options: ReplayOptions | None = None,
) -> ReplayReport:
    """Hold logged requests against the tables and the event log.

    Args:
        settings: the workspace.
        definitions: the feature service now.
        encoders: by name of a bundle: its encoder beside that of its training data.
        options: what is replayed.

    Raises:
        NotFoundError: nothing was logged, or there are no tables.
        RfError: the tables cannot be read.
    """
    options = options or ReplayOptions()
    read = _read(settings, definitions.spec, options)
    with truth_of(settings, definitions) as truth:
        return Replay(truth, options, encoders).run(*read)


class Replay:
    """Comparison of records with a truth."""

    def __init__(self, truth: Truth, options: ReplayOptions, encoders: Mapping[str, EncoderPair]) -> None:
        self._truth, self._options, self._encoders = truth, options, encoders

    def run(self, records: list[dict[str, Any]], sessions: int, unread: int) -> ReplayReport:
        """Compare, field by field.

        Args:
            records: rows of the serving log, times in microseconds.
            sessions: how many more were of sessions.
            unread: how many more had no features.
        """
        spec = self._truth.spec
        whole = spec.user.id_type == "int64"
        users = [int(r["user_id"]) if whole else r["user_id"] for r in records]
        self._truth.ask(Requests(users, [r["time"] for r in records]))
        fields: list[FieldReport] = []
        for view in sorted({f.view for f in spec.inputs("user")} - set(self._truth.problems)):
            of_view = [f for f in spec.inputs("user") if f.view == view]
            fields += self._view(view, of_view, self._truth.view(view, of_view), users, records)
        if spec.history:
            fields += self._histories(spec, self._truth.events(), users, records)
        fields += self._gone(records)
        times = [r["time"] for r in records]
        return ReplayReport(
            requests=len(records),
            sessions=sessions,
            unread=unread,
            since=as_time(min(times)).isoformat(),
            until=as_time(max(times)).isoformat(),
            bundles=sorted({r["bundle"] for r in records}),
            fields=fields,
            notes=[f"view '{view}' cannot be replayed: {why}" for view, why in self._truth.problems.items()],
        )

    def _view(
        self,
        view: str,
        fields: Sequence[FieldSpec],
        truth: ViewTruth,
        users: Sequence[Any],
        records: Sequence[dict[str, Any]],
    ) -> list[FieldReport]:
        reports = []
        for f in fields:
            form, differences, served_values = plain(f.type), [], []
            for n, (user, record) in enumerate(zip(users, records, strict=True)):
                served = form(record.get(value_column(f.name)))
                versions = truth.versions.get(user, {}).get(f.name, [])
                difference = compare(served, truth.held[f.name][n], versions, record["time"])
                if difference is EQUAL:
                    difference = self._encoded(f, record)
                if f.type.is_time and difference.status is Status.NEVER and truth.held[f.name][n] is not None:
                    difference = Difference(status=Status.NEVER, shift=float(served - truth.held[f.name][n]))
                differences.append(difference)
                served_values.append(served)
            reports.append(self._report(f.name, differences, served_values, truth.held[f.name], records))
        times, moments = [], [_seconds(r.get(moment_column(view))) for r in records]
        for n, (user, record) in enumerate(zip(users, records, strict=True)):
            times.append(
                _time(moments[n], truth.held_ts[n], truth.versions.get(user, {}).get(view, []), record["time"])
            )
        reports.append(self._report(f"{view} {_TIME}", times, moments, truth.held_ts, records))
        return reports

    def _histories(
        self,
        spec: FeatureSpec,
        truth: Mapping[Any, EventTruth],
        users: Sequence[Any],
        records: Sequence[dict[str, Any]],
    ) -> list[FieldReport]:
        reports, nothing = [], EventTruth()
        for f in spec.history:
            form, differences, served_values, held = plain(f.type), [], [], []
            for user, record in zip(users, records, strict=True):
                served = form(record.get(value_column(f.name)))
                events, at = truth.get(user, nothing), record["time"]
                moment = _seconds(record.get(moment_column(f.view)))
                difference = compare_history(served, f.name, events, at, spec.history_length, moment)
                if difference is EQUAL:
                    difference = self._encoded(f, record)
                differences.append(difference)
                served_values.append(served)
                values = [v for v, t in zip(events.columns.get(f.name, []), events.times_us, strict=False) if t < at]
                held.append(tuple(values[-spec.history_length :]))
            reports.append(self._report(f.name, differences, served_values, held, records, history=True))
        return reports

    def _encoded(self, f: FieldSpec, record: Mapping[str, Any]) -> Difference:
        """Return whether the bundle makes the same model input of a value as its training data."""
        pair = self._encoders.get(record["bundle"])
        if pair is None or pair.same(f.name, record.get(value_column(f.name))):
            return EQUAL
        return Difference(status=Status.ENCODED)

    def _gone(self, records: Sequence[dict[str, Any]]) -> list[FieldReport]:
        """Return the fields that were served and that the definitions, or the tables, do not have any more."""
        spec = self._truth.spec
        known = {f.name for f in spec.fields if f.view not in self._truth.problems}
        served = sorted({name for r in records for name in r if name.startswith("value.")})
        reports = []
        for name in (each.removeprefix("value.") for each in served):
            if name in known:
                continue
            view = name.partition("__")[0]
            near = get_close_matches(name, known, n=1, cutoff=0.5)
            detail = self._truth.problems.get(view) or (
                f"the definitions have no {name}" + (f"; they have {near[0]}" if near else "")
            )
            differences = [
                Difference(status=Status.EQUAL if r.get(value_column(name)) is None else Status.NEVER) for r in records
            ]
            values = [r.get(value_column(name)) for r in records]
            nothing: list[Any] = [None] * len(records)
            reports.append(self._report(name, differences, values, nothing, records, cause=RENAMED, detail=detail))
        return reports

    def _report(
        self,
        name: str,
        differences: Sequence[Difference],
        served: Sequence[Any],
        truth: Sequence[Any],
        records: Sequence[dict[str, Any]],
        *,
        history: bool = False,
        cause: str = "",
        detail: str = "",
    ) -> FieldReport:
        wrong = [n for n, each in enumerate(differences) if each.status is not Status.EQUAL][: self._options.examples]
        examples = [
            Example(
                request_id=records[n]["request_id"],
                user_id=records[n]["user_id"],
                time=as_time(records[n]["time"]).isoformat(),
                served=_shown(served[n]),
                truth=_shown(truth[n]),
                status=differences[n].status.value,
                seconds=differences[n].seconds,
            )
            for n in wrong
        ]
        return FieldReport.of(
            name,
            differences,
            history=history,
            grace_seconds=self._options.grace_seconds,
            allowed=self._options.allowed_by_field.get(name, self._options.allowed),
            examples=examples,
            cause=cause if wrong else "",
            detail=detail if wrong else "",
        )


def _time(served: int | None, held: int | None, versions: Sequence[Version], at_us: int) -> Difference:
    """Return how the event timestamp of a served row differs from that of the row that holds."""
    difference = compare(served, held, versions, at_us)
    if difference.status is Status.NEVER and served is not None and held is not None:
        return Difference(status=Status.NEVER, shift=float(served - held))
    return difference


def _read(settings: Settings, spec: FeatureSpec, options: ReplayOptions) -> tuple[list[dict[str, Any]], int, int]:
    """Return the records to replay, and how many were of sessions or without features."""
    parts = ServingParts(settings.workspace.serving_log)
    since = now_us() - int(options.hours * _HOUR_US)
    rows: list[dict[str, Any]] = []
    for part in parts.parts(since_us=since):
        table = pq.read_table(part.path)
        times = {f.name: _untimed(f.type) for f in table.schema}
        table = table.select([n for n in table.column_names if n != "items"])
        table = pa.table({n: table[n].cast(times[n]) for n in table.column_names})
        rows += (r for r in table.to_pylist() if r["time"] >= since)
    if options.bundle is not None:
        rows = [r for r in rows if r["bundle"] == options.bundle]
    of_users = [r for r in rows if r["user_id"] is not None]
    read = [r for r in of_users if r["path"] != "degraded"]
    if not read:
        raise NotFoundError(
            f"no answer of the last {options.hours:g} hours is in the serving log {parts.directory}; run the server with "
            f"`rf serve --log-share 1`, or look further back with --hours"
        )
    if len(read) > options.most:
        read = random.Random(options.seed).sample(read, options.most)
    return read, len(rows) - len(of_users), len(of_users) - len([r for r in of_users if r["path"] != "degraded"])


def _untimed(dtype: pa.DataType) -> pa.DataType:
    """Return the type with times as whole numbers of microseconds."""
    if pa.types.is_list(dtype):
        return pa.list_(_untimed(dtype.value_type))
    return pa.int64() if pa.types.is_timestamp(dtype) else dtype


def _seconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds // 1_000_000


def _shown(value: Any) -> str:
    text = repr(list(value)) if isinstance(value, tuple) else repr(value)
    return text if len(text) <= _SHOWN else f"…{text[-_SHOWN:]}"
