"""From the rounds of a benchmark to medians, shares and ratios."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rf_bench.train.rig import PARTS

COMMUNICATION = "communication"


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """Throughput of a training, in the middle round."""

    name: str
    processes: int
    step_seconds: float
    """Wall seconds of a step."""
    cpu_seconds: float
    """CPU seconds of a step, all processes together."""
    sequences_per_second: float
    events_per_second: float
    shares: dict[str, float]
    """Share of a step by part. What a collective operation was on its way for is under ``communication`` and not under the part
    that waited for it; the rest up to 1 is what the loop itself takes."""
    peak_bytes: int
    """Largest memory of a process, everything it imports and maps included; of all rigs of the process together."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Trainings that took turns."""

    rigs: list[Throughput]
    speed: dict[str, dict[str, float]]
    """By the rig's name: :func:`speed_ratio` to the one it is compared with."""


def throughput(name: str, launches: Sequence[Sequence[dict[str, Any]]]) -> Throughput:
    """Summarise one rig.

    Args:
        name: of the rig.
        launches: what :func:`rf_bench.train.processes.launch` returned, once or several times.
    """
    rounds = [round_ for ranks in launches for round_ in _rounds(name, ranks)]
    shares = {part: median(r["parts"][part] / r["wall"] for r in rounds) for part in PARTS}
    told = [rank["communication"][name] for ranks in launches for rank in ranks if name in rank["communication"]]
    moving = {part: median(each[part] for each in told) if told else 0.0 for part in PARTS}
    return Throughput(
        name=name,
        processes=len(launches[0]),
        step_seconds=median(r["wall"] / r["steps"] for r in rounds),
        cpu_seconds=median(r["cpu"] / r["steps"] for r in rounds),
        sequences_per_second=median(r["sequences"] / r["wall"] for r in rounds),
        events_per_second=median(r["events"] / r["wall"] for r in rounds),
        shares={part: share * (1 - moving[part]) for part, share in shares.items()}
        | {COMMUNICATION: sum(shares[part] * moving[part] for part in PARTS)},
        peak_bytes=max(rank["peak_bytes"] for ranks in launches for rank in ranks),
    )


def speed_ratio(name: str, other: str, launches: Sequence[tuple[Sequence[Any], Sequence[Any]]]) -> dict[str, float]:
    """Return the sequences a second of ``name`` in multiples of those of ``other``.

    Args:
        name: a rig.
        other: what it is compared with.
        launches: pairs of launches that took turns, of ``name`` and of ``other``; the same one twice where both ran in it.

    Returns:
        ``median``, ``least`` and ``most`` of the rounds, by wall time, and ``cpu``, the median by CPU time: what other programs
        on the machine take away changes the first ones.
    """
    rounds = [
        pair for mine, theirs in launches for pair in zip(_rounds(name, mine), _rounds(other, theirs), strict=True)
    ]
    wall, cpu = (
        [(a["sequences"] / a[clock]) / (b["sequences"] / b[clock]) for a, b in rounds] for clock in ("wall", "cpu")
    )
    return {"median": median(wall), "least": min(wall), "most": max(wall), "cpu": median(cpu)}


def _rounds(name: str, ranks: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rounds of a launch: the slowest process decides on the time, work and CPU time add up."""
    rounds = []
    for each in zip(*(rank["rounds"][name] for rank in ranks), strict=True):
        rounds.append(
            {
                "steps": each[0]["steps"],
                "wall": max(r["wall"] for r in each),
                "cpu": sum(r["cpu"] for r in each),
                "sequences": sum(r["sequences"] for r in each),
                "events": sum(r["events"] for r in each),
                "parts": {part: sum(r["parts"][part] for r in each) / len(each) for part in PARTS},
            }
        )
    return rounds
