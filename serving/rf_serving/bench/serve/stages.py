"""Read a server's stage timings from its metrics."""

from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families

_STAGES = "rf_stage_seconds"


def stage_seconds(url: str | None) -> dict[str, tuple[float, float]]:
    """Return the seconds and the count of every stage so far; nothing without a URL."""
    if url is None:
        return {}
    text = urlopen(url, timeout=10).read().decode()
    sums: dict[str, float] = {}
    counts: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        if family.name != _STAGES:
            continue
        for sample in family.samples:
            into = {f"{_STAGES}_sum": sums, f"{_STAGES}_count": counts}.get(sample.name)
            if into is not None:
                stage = sample.labels["stage"]
                into[stage] = into.get(stage, 0.0) + sample.value
    return {stage: (total, counts.get(stage, 0.0)) for stage, total in sums.items()}
