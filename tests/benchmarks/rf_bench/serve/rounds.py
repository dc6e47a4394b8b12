"""Rounds of load in which servers take turns, so that what else the machine does meets all of them; medians over rounds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from statistics import median

from rf_bench.serve.load import PERCENTILES
from rf_bench.serve.overload import DEADLINE_SECONDS, Overload, overload
from rf_bench.serve.stretch import Stretch, Target, stretch

FLOOR, ECHO = "bare C echo", "bare grpc.aio echo"
FLOOR_P90_MS = 1.0
"""Limit on the bare C echo: a turn above it says more about the machine than about servers, and its latencies are void."""
STEP = 1.25
"""Between two rates of the search for the peak."""


@dataclass(frozen=True, kw_only=True)
class Turn:
    """A server's stretch of load at one rate in one round."""

    server: str
    round: int
    stretch: Stretch
    void: bool = False
    """Whether the latencies do not count (:data:`FLOOR_P90_MS`)."""


@dataclass(frozen=True, kw_only=True)
class Medians:
    """Medians over the rounds of one server at one rate."""

    server: str
    rate: float
    cpu_us: float
    wait_us: float | None
    pressure: float | None
    milliseconds: dict[str, float]
    """Percentiles, over the rounds that are not void; empty if all are."""
    valid: int
    """Number of those rounds."""
    rounds: int
    failed_share: float
    """Largest of any round."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Outcome of all rounds."""

    turns: list[Turn] = field(default_factory=list)
    overloads: list[Overload] = field(default_factory=list)
    """One for each server and round."""

    @property
    def medians(self) -> list[Medians]:
        """Medians by server and rate."""
        of: dict[tuple[str, float], list[Turn]] = {}
        for turn in self.turns:
            of.setdefault((turn.server, turn.stretch.load.rate), []).append(turn)
        return [_medians(server, rate, turns) for (server, rate), turns in of.items()]

    @property
    def peaks(self) -> dict[str, float]:
        """Server -> median over rounds of the most calls answered a second."""
        servers = dict.fromkeys(each.server for each in self.overloads)
        return {name: median(each.peak.good_rate for each in self.overloads if each.server == name) for name in servers}


def _medians(server: str, rate: float, turns: Sequence[Turn]) -> Medians:
    stretches = [turn.stretch for turn in turns]
    valid = [turn.stretch.load for turn in turns if not turn.void]
    return Medians(
        server=server,
        rate=rate,
        cpu_us=median(each.cpu_us for each in stretches),
        wait_us=_known([each.wait_us for each in stretches]),
        pressure=_known([each.pressure for each in stretches]),
        milliseconds={f"p{q:g}": median(load.percentile(q) for load in valid) for q in PERCENTILES if valid},
        valid=len(valid),
        rounds=len(turns),
        failed_share=max(each.failed_share for each in stretches),
    )


def _known(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


async def run_rounds(
    targets: Mapping[str, Target],
    rates: Sequence[float],
    rounds: int,
    seconds: float,
    after_each: Callable[[str, Stretch], None] = lambda title, each: None,
) -> Rounds:
    """Load servers in turn, at every rate and then, but for the echoes, up to the peak and beyond.

    Args:
        targets: servers by name; :data:`FLOOR` and :data:`ECHO` are echoes. They take turns in this order, the floor first.
        rates: calls a second.
        rounds: how often.
        seconds: how long each rate is held.
        after_each: called with every stretch and what it was, for progress.
    """
    names = sorted(targets, key=lambda name: name != FLOOR)
    found = Rounds()
    for number in range(rounds):
        for rate in rates:
            void = False
            for name in names:
                each = await stretch(targets[name], rate, seconds, seed=number)
                if name == FLOOR:
                    void = each.load.percentile(90) > FLOOR_P90_MS
                found.turns.append(Turn(server=name, round=number, stretch=each, void=void))
                after_each(f"round {number + 1}, {name}", each)
        for name in names:
            if name in (FLOOR, ECHO):
                continue
            held = [turn.stretch for turn in found.turns if (turn.server, turn.round) == (name, number)]
            kept = [each.load.rate for each in held if each.keeps_up]
            rising = partial(after_each, f"round {number + 1}, peak of {name}")
            peak = await find_peak(targets[name], max(kept, default=min(rates)), seconds, number, rising)
            found.overloads.append(await overload(name, number, targets[name], peak, seconds))
            after_each(f"round {number + 1}, overload of {name}", found.overloads[-1].overloaded)
    return found


async def find_peak(
    target: Target,
    lowest: float,
    seconds: float,
    seed: int = 0,
    after_each: Callable[[Stretch], None] = lambda each: None,
) -> Stretch:
    """Return the stretch with the most calls answered in time, of rates that rise until the server falls behind twice in a row.

    Calls have the deadline of an overload. Once is not enough: other work on the machine may have been the reason.

    Args:
        target: the server.
        lowest: first rate.
        seconds: how long each rate is held.
        seed: of the moments of calls.
        after_each: called with every stretch, for progress.
    """
    found: list[Stretch] = []
    while len(found) < 2 or any(each.keeps_up for each in found[-2:]):
        found.append(await stretch(target, lowest * STEP ** len(found), seconds, seed, DEADLINE_SECONDS))
        after_each(found[-1])
    return max(found, key=lambda each: each.good_rate)
