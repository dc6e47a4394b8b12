"""Trial of a new bundle on real traffic before it is promoted: first unseen, then for a part of the users.

A stage takes hours or days, and a refresh does not wait for it: it begins the stage and ends, and each later call looks at it,
until it is passed or refused. What a stage has come to is kept with the run, so a passed one is not done again.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal, Protocol

from rf_platform.effects import Finding
from rf_platform.errors import UsageError
from rf_platform.registry import BundleRecord, ExperimentRecord, Registry, shadow, split
from rf_platform.registry.deploy import CurrentSpec, Rehearse
from rf_serving.experiments.split_status import ExperimentSettings, Status
from rf_serving.refresh.gates import Verdict

State = Literal["waiting", "passed", "refused"]
NOTE = "rf refresh"
"""Note of what a refresh has begun: what others began is not touched."""


@dataclass(frozen=True, kw_only=True)
class Progress:
    """State of a stage."""

    state: State
    said: str

    def verdict(self, stage: str) -> Verdict:
        """Return the state as the verdict of a gate."""
        return Verdict(gate=stage, passed=self.state == "passed", said=self.said, waiting=self.state == "waiting")


class Stage(Protocol):
    """A stage of a trial."""

    @property
    def name(self) -> str:
        """Name in reports."""

    def plan(self) -> str:
        """Return what the stage does, in words."""

    def advance(self, registry: Registry, bundle: BundleRecord) -> Progress:
        """Begin the stage, or look how far it is; ends it where it is passed or refused.

        Raises:
            RfError: it cannot begin, or be looked at now; the next call tries again.
        """


class ShadowFigures(Protocol):
    """Comparison of a shadow with the active bundle, as a server has it."""

    requests: int
    failed: int
    overlap: float
    active_ms: float
    shadow_ms: float


@dataclass(frozen=True, kw_only=True)
class ShadowStage:
    """Stage: the bundle answers a share of the requests unseen, and has to answer them all, and in time."""

    hours: float
    read: Callable[[str], ShadowFigures | None]
    """Returns the comparison of a shadow of this name; None: no server has it yet."""
    current_spec: CurrentSpec = None
    rehearse: Rehearse = None
    """See :func:`rf_platform.registry.shadow`."""
    share: float = 0.1
    requests: int = 100
    """That have to be compared."""
    most_failed: float = 0.01
    slower: float = 2.0
    """Factor of the active bundle's time, beyond a millisecond, that is too slow."""

    name = "shadow"

    def __post_init__(self) -> None:
        """Check the time."""
        if not self.hours > 0:
            raise UsageError(f"--shadow-hours={self.hours:g} is no time to answer anything in")

    def plan(self) -> str:
        """Return what the stage does, in words."""
        return (
            f"let the bundle answer {self.share:.0%} of the requests unseen for {self.hours:g} h; refused, if it fails more than "
            f"{self.most_failed:.0%} of them, or takes more than {self.slower:g} times as long"
        )

    def advance(self, registry: Registry, bundle: BundleRecord) -> Progress:
        """Begin the shadow, or judge it when its time is over."""
        now = registry.traffic.now()
        if now.shadow != bundle.name:
            if now.shadow is not None:
                raise UsageError(
                    f"'{now.shadow}' is the shadow, and a refresh would end that: `rf shadow --stop` first, or leave out "
                    f"--shadow-hours"
                )
            shadow(
                registry,
                bundle.name,
                self.share,
                note=NOTE,
                current_spec=self.current_spec,
                rehearse=self.rehearse,
            )
            return Progress(state="waiting", said=f"it answers {self.share:.0%} of the requests unseen from now on")
        assert now.created_at is not None
        left = timedelta(hours=self.hours) - (datetime.now(UTC) - now.created_at)
        if left > timedelta():
            return Progress(state="waiting", said=f"{left.total_seconds() / 3600:.1f} h of {self.hours:g} h are left")
        found = self.read(bundle.name)
        if found is None or found.requests + found.failed < self.requests:
            count = 0 if found is None else found.requests + found.failed
            return Progress(state="waiting", said=f"{count:,} requests are compared, and {self.requests:,} are needed")
        done = self._judged(found)
        registry.traffic.shadow(None, 0.0, NOTE)
        return done

    def _judged(self, found: ShadowFigures) -> Progress:
        failed = found.failed / (found.requests + found.failed)
        said = (
            f"{found.requests:,} requests answered unseen, {failed:.1%} not, {found.shadow_ms:.2f} ms where the served bundle "
            f"takes {found.active_ms:.2f} ms, {found.overlap:.0%} of the same items"
        )
        if failed > self.most_failed:
            return Progress(state="refused", said=f"{said}: too many are not answered")
        if found.shadow_ms > self.slower * found.active_ms + 1.0:
            return Progress(state="refused", said=f"{said}: too slow")
        return Progress(state="passed", said=said)


@dataclass(frozen=True, kw_only=True)
class SplitStage:
    """Stage: an experiment on a part of the users, with guard rails; see :mod:`rf_serving.experiments`."""

    percent: float
    measured: ExperimentSettings
    most_days: float
    """Days after which an experiment that has not shown the bundle not to be worse is refused."""
    read: Callable[[ExperimentRecord], Status]
    """Returns the state of an experiment."""
    current_spec: CurrentSpec = None
    rehearse: Rehearse = None
    """See :func:`rf_platform.registry.split`."""

    name = "split"

    def plan(self) -> str:
        """Return what the stage does, in words."""
        return (
            f"give the bundle {self.percent:g}% of the users for at most {self.most_days:g} days, and measure "
            f"{self.measured.metric}; passed, if it is better or not worse by more than {self.measured.margin:.0%}; "
            f"refused, if it does harm"
        )

    def advance(self, registry: Registry, bundle: BundleRecord) -> Progress:
        """Begin the experiment, or act on what it has found."""
        mine = [e for e in registry.experiments.history() if e.challenger == bundle.name and e.note == NOTE]
        if not mine:
            return self._begun(registry, bundle)
        experiment = mine[-1]
        if not experiment.running:
            # By hand or by `rf experiment check`: harm is no reason to try again.
            return Progress(state="refused", said=f"experiment '{experiment.name}' has ended: {experiment.sentence}")
        found = self.read(experiment)
        verdict = found.verdict
        if verdict.finding.stops:
            return self._ended(registry, found, "refused", verdict.sentence)
        if verdict.finding in (Finding.BETTER, Finding.EQUAL) or self._not_worse(found):
            return self._ended(registry, found, "passed", verdict.sentence)
        age = datetime.now(UTC) - experiment.started_at
        if age > timedelta(days=self.most_days):
            late = f"{verdict.sentence} That is all that {self.most_days:g} days have shown."
            return self._ended(registry, found, "refused", late)
        return Progress(state="waiting", said=verdict.sentence)

    def _begun(self, registry: Registry, bundle: BundleRecord) -> Progress:
        if (other := registry.traffic.now().challenger) not in (None, bundle.name):
            raise UsageError(f"'{other}' has a part of the users; end that by `rf rollback` or `rf promote` first")
        split(registry, bundle.name, self.percent, note=NOTE, current_spec=self.current_spec, rehearse=self.rehearse)
        registry.experiments.start(bundle.name, asdict(self.measured), NOTE)
        return Progress(state="waiting", said=f"it answers {self.percent:g}% of the users from now on")

    def _not_worse(self, found: Status) -> bool:
        return found.difference is not None and found.difference.low > -self.measured.margin * abs(found.means[0])

    @staticmethod
    def _ended(registry: Registry, found: Status, state: State, said: str) -> Progress:
        registry.experiments.stop(found.verdict.finding.value, found.verdict.sentence, NOTE)
        return Progress(state=state, said=said)
