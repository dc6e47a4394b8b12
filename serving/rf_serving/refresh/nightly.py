"""A refresh: skew → import → materialise → dataset → train → compare → gates → bundle → trial → promote.

Each step is that of the command of its name. What a step makes has a name that follows from the dataset version
(``<dataset>-refresh``), so a refresh that was interrupted, or is repeated, finds what is there and goes on behind it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from time import perf_counter
from typing import Any, Literal, TypeVar

from rf_platform.bundle import read_manifest
from rf_platform.cli.console import say
from rf_platform.data.adapters import Request
from rf_platform.data.importer import OnError, import_tables
from rf_platform.dataset import Dataset
from rf_platform.dataset.protocols import LeaveOneOut
from rf_platform.dataset.version import build_version, protocol_of
from rf_platform.errors import NotFoundError, RunError, UnavailableError, UsageError
from rf_platform.features.materialize import materialize
from rf_platform.locks import claimed, holder
from rf_platform.registry import BundleRecord, Registry, RunRecord, RunStatus, features_now, fetched, promote
from rf_platform.settings import Settings
from rf_platform.skew.gate import OFF, judge_skew
from rf_serving.bundle.build import IndexOptions, build_bundle
from rf_serving.deployment.rehearsal import Rehearsal
from rf_serving.refresh.comparison import Comparison, compare_with_served
from rf_serving.refresh.gates import Candidate, Gate, NotWorse, Verdict, judge_all
from rf_serving.refresh.record import RefreshRecord
from rf_serving.refresh.trial import NOTE, Progress, Stage
from rf_training.distributed.launcher import launch
from rf_training.run import continue_run, read_metrics, recipe_for, resume_run, start_run, use_threads, write_metrics

T = TypeVar("T")
Result = Literal["promoted", "unchanged", "refused", "ready", "waiting"]
METRICS, TRIAL = "refresh", "trial"
"""Keys among a run's metrics: of the comparison, and of the stages of the trial that have ended."""
SKEW = "skew"
"""Name of the replay among steps and verdicts."""
_ON_SKEW = {"warn": "say so", "refuse": "stop"}


@dataclass(frozen=True, kw_only=True)
class RefreshOptions:
    """Options of a refresh."""

    source: Request | None = None
    """Source to import; None: the tables stay, and only recorded events are new."""
    on_error: OnError = OnError.FAIL
    recipe: str | None = None
    """Train anew by this recipe; None: go on from the served bundle, or by the default recipe if there is none."""
    changes: tuple[str, ...] = ()
    """Of single settings, as `rf train --set` takes them."""
    processes: int = 1
    """Processes on this host that train together."""
    gates: tuple[Gate, ...] = field(default_factory=lambda: (NotWorse(),))
    stages: tuple[Stage, ...] = ()
    """Of the trial on real traffic, before the promotion."""
    promote: bool = True
    """Whether a bundle that passes is promoted."""
    index: IndexOptions = field(default_factory=IndexOptions)
    skew: str = OFF
    """Policy of the skew replay, before anything is imported: ``off``, ``warn`` or ``refuse``."""


@dataclass(kw_only=True)
class Outcome:
    """Outcome of a refresh."""

    result: Result = "unchanged"
    """``ready``: everything but the promotion; ``waiting``: a stage of the trial is going on."""
    said: str = ""
    dataset: str | None = None
    run: str | None = None
    bundle: str | None = None
    served_before: str | None = None
    skew: str = OFF
    """Policy of the replay."""
    verdicts: list[Verdict] = field(default_factory=list)
    steps: list[dict[str, Any]] = field(default_factory=list)
    """Name, seconds and effect of each step."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


class Refresh:
    """One refresh of a workspace; no two of them run at once."""

    def __init__(self, settings: Settings, options: RefreshOptions) -> None:
        self._settings, self._options = settings, options
        self._registry = Registry.of(settings)
        self._record = RefreshRecord(settings.workspace.refresh)
        self.outcome = Outcome()

    def plan(self) -> list[str]:
        """Return what a refresh would do, in words; nothing is changed."""
        options, served = self._options, self._served()
        start = f"on from bundle '{served.name}'" if served is not None and not options.recipe else "anew"
        by = f" by recipe '{options.recipe or 'default'}'" if start == "anew" else ""
        together = f", {options.processes} processes" if options.processes > 1 else ""
        replayed = served is not None and options.skew != OFF
        last = "promote the bundle" if options.promote else "leave the promotion to you"
        return [
            *([f"replay the last logged requests, and {_ON_SKEW[options.skew]} where they differ"] if replayed else []),
            f"import {options.source.source}" if options.source else "no import: the tables stay as they are",
            "materialize all views",
            f"build the next dataset version, protocol {self._protocol().name}; if it is unchanged, stop",
            f"train {start}{by}{''.join(f', {each}' for each in options.changes)}{together}",
            f"compare with '{served.name}' on the same users" if served else "nothing is served to compare with",
            f"gates: {', '.join(gate.name for gate in options.gates) or 'none'}",
            "build a bundle",
            *(f"{stage.name}: {stage.plan()}" for stage in options.stages),
            last,
        ]

    def run(self) -> Outcome:
        """Go through all steps that are not done yet.

        Raises:
            UnavailableError: another refresh of this workspace is at work.
            UsageError: a challenger stands beside the served bundle, and the promotion would end the split.
            RfError: a step fails; doing it again goes on from there.
        """
        lock = self._settings.workspace.root / ".locks" / "refresh"
        with claimed(lock) as mine:
            if not mine:
                raise UnavailableError(f"another refresh is at work, {holder(lock)}; wait until it has ended")
            self._go()
            self._record.write(self.outcome.to_dict(), self.outcome.result)
        return self.outcome

    def _go(self) -> None:
        outcome, served = self.outcome, self._served()
        outcome.served_before = served.name if served is not None else None
        if (tried := self._tried()) is not None:
            outcome.run, outcome.bundle = tried.run, tried.name
            self._finish(tried, served)
            return
        self._check_split()
        if served is not None and not self._passes_skew():
            return
        if self._options.source is not None:
            self._step("import", self._import)
        self._step("materialize", self._materialize)
        dataset = self._step("dataset", self._dataset)
        outcome.dataset = dataset.name
        if served is not None and (why := self._why_stop(dataset, served)):
            self._end("unchanged", why)
            return
        run = self._step("train", lambda: self._train(dataset, served))
        outcome.run = run.name
        found = None if served is None else self._step("compare", lambda: self._compare(run, served))
        outcome.verdicts += judge_all(self._options.gates, Candidate(run=run, comparison=found))
        if refused := [each for each in outcome.verdicts if not each.passed]:
            self._end("refused", "; ".join(f"{each.gate}: {each.said}" for each in refused))
            return
        bundle = self._step("index", lambda: self._index(run))
        outcome.bundle = bundle.name
        self._finish(bundle, served)

    def _passes_skew(self) -> bool:
        """Replay what was served, before an import rewrites what was true, and return whether to go on."""
        self.outcome.skew = policy = self._options.skew
        if policy == OFF:
            return True
        before = self._record.interrupted()
        kept = [each for each in before.get("verdicts", ()) if each["gate"] == SKEW and before["skew"] == policy]
        verdict = Verdict(**kept[0]) if kept else self._step(SKEW, self._replay)
        self.outcome.verdicts.append(verdict)
        self._record.write(self.outcome.to_dict(), "")
        if not verdict.passed:
            self._end("refused", f"skew: {verdict.said}; `rf skew replay` has examples")
        return verdict.passed

    def _replay(self) -> tuple[Verdict, str]:
        found = judge_skew(self._settings, self._options.skew)
        return Verdict(gate=SKEW, passed=found.passed, said=found.said), found.said

    def _tried(self) -> BundleRecord | None:
        """Return the bundle with a trial that an earlier call has begun: no other one is made meanwhile."""
        traffic = self._registry.traffic.now()
        if not self._options.stages or traffic.note != NOTE:
            return None
        name = traffic.challenger or traffic.shadow
        return None if name is None else self._registry.bundle(name)

    def _finish(self, bundle: BundleRecord, served: BundleRecord | None) -> None:
        """Go through the trial, as far as it is, and promote what has passed it."""
        if served is not None and not self._passes_trial(bundle):
            return
        if not self._options.promote:
            self._end("ready", f"`rf promote {bundle.name}` makes it the served one")
            return
        self._step("promote", lambda: self._promote(bundle))
        self._end("promoted", f"{bundle.name} is served" + (f" after {served.name}" if served else ""))

    def _passes_trial(self, bundle: BundleRecord) -> bool:
        """Return whether all stages are passed; the outcome says where the trial is, if they are not."""
        run = self._registry.run(bundle.run)
        for stage in self._options.stages:
            ended = read_metrics(run.path).get(TRIAL, {})
            if stage.name in ended:
                now = Progress(**ended[stage.name])
            else:
                now = self._step(stage.name, partial(self._advanced, stage, bundle))
                if now.state != "waiting":
                    write_metrics(run.path, self._registry, run.name, {TRIAL: {**ended, stage.name: asdict(now)}})
            self.outcome.verdicts.append(now.verdict(stage.name))
            if now.state != "passed":
                self._end(now.state, f"{bundle.name}, {stage.name}: {now.said}")
                return False
        return True

    def _advanced(self, stage: Stage, bundle: BundleRecord) -> tuple[Progress, str]:
        now = stage.advance(self._registry, bundle)
        return now, f"{now.state}: {now.said}"

    def _step(self, name: str, work: Callable[[], tuple[T, str]]) -> T:
        """Do a step, and note how long it took and what it did."""
        begin = perf_counter()
        found, said = work()
        self.outcome.steps.append({"step": name, "seconds": round(perf_counter() - begin, 2), "said": said})
        self._record.write(self.outcome.to_dict(), "")
        say(f"{name}: {said}", err=True)
        return found

    def _end(self, result: Result, said: str) -> None:
        self.outcome.result, self.outcome.said = result, said

    def _served(self) -> BundleRecord | None:
        served = self._registry.active_bundle()
        return None if served is None else fetched(self._registry, served)

    def _check_split(self) -> None:
        traffic = self._registry.traffic.now()
        if self._options.promote and traffic.challenger is not None:
            raise UsageError(
                f"bundle '{traffic.challenger}' answers {traffic.percent:g}% of the users as a challenger, and a promotion would "
                f"end that: decide with `rf promote` or `rf rollback` first, or give --no-promote"
            )

    def _import(self) -> tuple[None, str]:
        assert self._options.source is not None
        workspace, threads = self._settings.workspace, self._settings.threads
        report = import_tables(
            self._options.source, workspace=workspace, on_error=self._options.on_error, threads=threads
        )
        counts = report.counts
        return None, f"{counts['interactions']:,} interactions, {counts['items']:,} items, to {report.last_event}"

    def _materialize(self) -> tuple[None, str]:
        done = materialize(self._settings, ())
        for warning in (warning for each in done for warning in each.warnings):
            say(f"warning: {warning}", err=True)
        return None, ", ".join(f"{each.view} {each.rows:,}" for each in done)

    def _protocol(self) -> Any:
        """Return the protocol of the newest dataset, or leave-one-out before the first."""
        try:
            newest = self._registry.dataset()
        except NotFoundError:
            return LeaveOneOut()
        return protocol_of(Dataset.open(fetched(self._registry, newest).path).protocol)

    def _dataset(self) -> tuple[Dataset, str]:
        built = build_version(self._settings, self._protocol())
        for warning in built.warnings:
            say(f"warning: {warning}", err=True)
        return built.dataset, f"{'built' if built.new else 'unchanged:'} {built.dataset.name}"

    def _why_stop(self, dataset: Dataset, served: BundleRecord) -> str:
        """Return why nothing is left to do, empty if something is."""
        if read_manifest(served.path).dataset_fingerprint == dataset.fingerprint:
            return f"'{served.name}' was trained on {dataset.name}: there is nothing new"
        name = self._name(dataset)
        if any(deployment.bundle == name for deployment in self._registry.deployments()):
            return f"'{name}', made of {dataset.name}, was promoted and taken back: promote it by hand, or wait for new data"
        return ""

    @staticmethod
    def _name(dataset: Dataset) -> str:
        """Return the name of the run and the bundle that a refresh makes of a dataset version."""
        return f"{dataset.name}-refresh"

    def _train(self, dataset: Dataset, served: BundleRecord | None) -> tuple[RunRecord, str]:
        name, options = self._name(dataset), self._options
        before = next((run for run in self._registry.runs() if run.name == name), None)
        if before is not None and before.removed_at is not None:
            raise RunError(f"run '{name}' was removed; it is trained again when the data is new, or by `rf train`")
        if before is not None and before.status is RunStatus.COMPLETED:
            return before, f"'{name}' was trained before"
        source = served.name if served is not None and options.recipe is None else None
        recipe = options.recipe or "default"
        if options.processes > 1:
            start = ["--from", source] if source is not None else ["--recipe", recipe]
            changes = [word for change in options.changes for word in ("--set", change)]
            new = [*start, "--dataset", dataset.name, *changes]
            self._train_together(name, new if before is None else ["--resume"])
        elif before is not None:
            resume_run(self._settings, name)
        elif source is not None:
            continue_run(self._settings, source, dataset.name, name, options.changes)
        else:
            chosen = recipe_for(self._settings, recipe, dataset.name, options.changes)
            start_run(self._settings, chosen, dataset.name, name)
        how = f"from '{source}'" if source is not None else f"by recipe '{recipe}'"
        return self._registry.run(name), f"'{name}' {how}" if before is None else f"'{name}' went on"

    def _train_together(self, name: str, arguments: Sequence[str]) -> None:
        """Train in several processes, by the command that does."""
        if code := launch(["train", "--name", name, *arguments], self._options.processes, quiet=True):
            raise RunError(
                f"the training of run '{name}' ended with exit code {code}; the same command goes on with it"
            )

    def _compare(self, run: RunRecord, served: BundleRecord) -> tuple[Comparison, str]:
        kept = read_metrics(run.path).get(METRICS)
        if kept is not None and kept["against"] == served.name:
            return Comparison.from_dict(kept), f"with '{served.name}', kept"
        use_threads(self._settings)
        found = compare_with_served(self._registry, run, served)
        write_metrics(run.path, self._registry, run.name, {METRICS: found.to_dict()})
        return found, f"with '{served.name}' on {found.cases:,} users"

    def _index(self, run: RunRecord) -> tuple[BundleRecord, str]:
        before = next((b for b in self._registry.bundles() if b.name == run.name and b.removed_at is None), None)
        if before is not None:
            return before, f"'{before.name}' was built before"
        directory = self._settings.workspace.bundles
        built = build_bundle(self._registry, directory, run.name, self._options.index, name=run.name)
        return built.record, f"'{built.record.name}', {built.items:,} items, {built.index['kind']}"

    def _promote(self, bundle: BundleRecord) -> tuple[None, str]:
        rehearsal = Rehearsal(self._settings)
        features = partial(features_now, self._settings)
        promote(self._registry, bundle.name, note="rf refresh", current_spec=features, rehearse=rehearsal)
        return None, "; ".join([bundle.name, *rehearsal.notes])
