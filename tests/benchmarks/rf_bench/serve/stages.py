"""Read from a server's metrics what its replies do not tell a generator that does not parse them."""

from typing import NamedTuple
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

_STAGES, _DEGRADED = "rf_stage_seconds", "rf_degraded_answers_total"


class Told(NamedTuple):
    """Counts of a server since its start; nothing of a server without metrics."""

    stages: dict[str, tuple[float, float]]
    """Seconds and count of every stage."""
    degraded: float
    """Answers made without the online store."""


def told_by(url: str | None) -> Told:
    """Read a server's metrics; nothing without a URL."""
    if url is None:
        return Told({}, 0.0)
    text = urlopen(url, timeout=10).read().decode()
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    degraded = 0.0
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            into = {f"{_STAGES}_sum": sums, f"{_STAGES}_count": counts}.get(sample.name)
            if into is not None:
                stage = sample.labels["stage"]
                into[stage] = into.get(stage, 0.0) + sample.value
            elif sample.name == _DEGRADED:
                degraded += sample.value
    return Told({stage: (total, counts.get(stage, 0.0)) for stage, total in sums.items()}, degraded)
