"""Report of a replay: by field, how much of what was served was true, and what is likely wrong."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from rich.table import Table

from rf_platform.skew.causes import cause_of
from rf_platform.skew.difference import Difference, Status


@dataclass(frozen=True, kw_only=True)
class Example:
    """One difference, with its request."""

    request_id: str
    user_id: str
    time: str
    served: str
    truth: str
    status: str
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FieldReport:
    """Differences of one field."""

    field: str
    checked: int
    counts: dict[str, int]
    """By status."""
    over: int
    """Differences beyond the grace."""
    allowed: float
    """Largest share of these that is accepted."""
    median_seconds: float | None
    """Of stale and early values."""
    most_seconds: float | None
    cause: str
    detail: str = ""
    examples: Sequence[Example] = ()

    @property
    def share(self) -> float:
        """Share of the values that differ beyond the grace."""
        return self.over / self.checked if self.checked else 0.0

    @property
    def failed(self) -> bool:
        """Whether that is more than accepted."""
        return self.share > self.allowed

    @classmethod
    def of(
        cls,
        name: str,
        differences: Sequence[Difference],
        *,
        history: bool,
        grace_seconds: float,
        allowed: float,
        examples: Sequence[Example] = (),
        cause: str = "",
        detail: str = "",
    ) -> "FieldReport":
        """Count differences of a field, one for each request; a stale or missing value within the grace is accepted."""
        counts = Counter(each.status.value for each in differences)
        wrong = [each for each in differences if each.status is not Status.EQUAL]
        late = (Status.STALE, Status.MISSING)
        over = [each for each in wrong if each.status not in late or each.seconds > grace_seconds]
        seconds = [each.seconds for each in wrong if each.status in (Status.STALE, Status.EARLY)]
        return cls(
            field=name,
            checked=len(differences),
            counts={status.value: counts[status.value] for status in Status},
            over=len(over),
            allowed=allowed,
            median_seconds=median(seconds) if seconds else None,
            most_seconds=max(seconds, default=None),
            cause=cause or cause_of(over, history=history),
            detail=detail,
            examples=examples,
        )


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """Result of a replay."""

    requests: int
    """Requests that were held against the truth."""
    sessions: int
    """Requests of sessions, which bring their own features and are left out."""
    unread: int
    """Requests answered without their features, since the store was silent; left out."""
    since: str
    until: str
    bundles: Sequence[str]
    fields: Sequence[FieldReport]
    notes: Sequence[str] = field(default_factory=tuple)

    @property
    def failed(self) -> list[FieldReport]:
        """Fields with more differences than accepted."""
        return [each for each in self.fields if each.failed]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        fields = [{**asdict(each), "share": each.share, "failed": each.failed} for each in self.fields]
        return {**asdict(self), "fields": fields, "failed": [each.field for each in self.failed]}

    def summary(self) -> str:
        """Return what is wrong, in one sentence."""
        if not self.failed:
            return f"{self.requests:,} requests: what was served is what training sees"
        worst = max(self.failed, key=lambda each: each.share)
        return (
            f"{len(self.failed)} of {len(self.fields)} fields differ from what training sees; {worst.field} in {worst.share:.1%} "
            f"of {worst.checked:,} requests: {worst.cause}"
        )


def report_table(report: ReplayReport) -> Table:
    """Return a table by field."""
    table = Table("field", *(status.value for status in Status), "stale or early by", "over", "likely cause")
    for each in report.fields:
        by = (
            ""
            if each.median_seconds is None
            else f"{_span(each.median_seconds)}, at most {_span(each.most_seconds or 0)}"
        )
        counts = [f"{each.counts[status.value]:,}" if each.counts[status.value] else "" for status in Status]
        over = f"[bold red]{each.share:.1%}[/]" if each.failed else f"{each.share:.1%}"
        table.add_row(each.field, *counts, by, over, each.cause)
    return table


def _span(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
