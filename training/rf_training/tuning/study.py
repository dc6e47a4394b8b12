"""Study of a tuning: trials of a recipe's settings, kept in SQLite, resumed and shared by processes."""

import json
import shutil
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rf_platform.bundle import check_name
from rf_platform.cli.console import say, track
from rf_platform.dataset.run_dataset import open_dataset
from rf_platform.errors import (
    ConfigError,
    CorruptError,
    InterruptedRunError,
    NotFoundError,
    RfError,
    UnavailableError,
    UsageError,
)
from rf_platform.failures import read_json
from rf_platform.files import replace_text
from rf_platform.interrupts import raise_if_received
from rf_platform.locks import claimed
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_training.callbacks import OptunaPruning
from rf_training.recipes import override
from rf_training.run import recipe_from_dict
from rf_training.trainer import Trainer
from rf_training.tuning.space import Space, read_space, setting_values
from rf_training.validation import SELECTION_METRIC

_OF_ALL = (CorruptError, NotFoundError, UnavailableError)
"""Errors that no other trial would be spared: the dataset is damaged or gone, or the machine lacks something."""
OWN, REASON = "recipe", "reason"
"""Attributes of trials: that it has the recipe's own settings, and why it failed."""
FIRST_TRIALS, FIRST_EPOCHS = 4, 1
"""Trials and epochs before which none is pruned."""


@dataclass(frozen=True, kw_only=True)
class TuningPlan:
    """Everything that decides what the trials of a tuning are; kept in ``plan.json``."""

    name: str
    """Name of the tuning."""
    dataset: str
    """Name of the dataset version."""
    fingerprint: str
    """Fingerprint of the dataset."""
    base: str
    """Named recipe that was given."""
    recipe: dict[str, Any]
    """Its settings, with those changed."""
    space: dict[str, str]
    """Range of every setting that is tuned, as `--space` takes it."""
    seed: int
    """Seed of the search."""

    @classmethod
    def load(cls, directory: Path) -> "TuningPlan":
        """Read the plan of a tuning.

        Raises:
            CorruptError: it is missing or damaged.
        """
        return cls(**read_json(directory / "plan.json", "tune under another --name"))


class Tuning:
    """A search by Optuna (tree-structured Parzen estimator) for the highest validation NDCG@20; the test split is never read.

    Every trial is a training of its own in ``trials/``. A trial that falls behind the median of the others at the same
    epoch is pruned. What a killed process leaves goes on from its last checkpoint. The first trial has the recipe's own settings,
    so that the others have something to be compared with.

    Args:
        settings: the workspace.
        plan: what is tuned; that of an earlier sitting must be equal.

    Raises:
        ConfigError: Optuna is not installed.
        UsageError: there is a tuning of that name with another plan.
        NotFoundError: the dataset is gone.
    """

    def __init__(self, settings: Settings, plan: TuningPlan) -> None:
        self._optuna = _optuna()
        self.plan, self.directory = plan, tuning_directory(settings, plan.name)
        self.recipe = recipe_from_dict(plan.recipe)
        self.space: Space = read_space((f"{name}={span}" for name, span in plan.space.items()), self.recipe)
        self._dataset = open_dataset(Registry.of(settings), plan.dataset)
        if self._dataset.fingerprint != plan.fingerprint:
            raise UsageError(f"tuning '{plan.name}' is on another dataset '{plan.dataset}'; choose another --name")
        self._trials = self.directory / "trials"
        self._trials.mkdir(parents=True, exist_ok=True)
        if (self.directory / "plan.json").exists():
            _same(TuningPlan.load(self.directory), plan)
        else:
            replace_text(self.directory / "plan.json", json.dumps(asdict(plan), indent=2) + "\n")
        optuna = self._optuna
        self.study = optuna.create_study(
            storage=f"sqlite:///{self.directory / 'study.db'}",
            study_name=plan.name,
            direction="maximize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(n_startup_trials=FIRST_TRIALS, n_warmup_steps=FIRST_EPOCHS + 1),
        )
        # A search that goes on draws other numbers than it has drawn.
        self.study.sampler = optuna.samplers.TPESampler(seed=plan.seed + len(self.study.trials))

    def run(self, trials: int, prune: bool = True) -> None:
        """Run trials until there are as many, counting those of earlier sittings and of other processes.

        Args:
            trials: finished trials in all: completed, pruned or failed.
            prune: end trials early that fall behind.

        Raises:
            InterruptedRunError: interrupted; the same command goes on.
        """
        try:
            with track(f"tune {self.plan.name}", trials) as progress:
                progress.advance(shown := min(trials, self.finished))
                while self.finished < trials:
                    with ExitStack() as claim:
                        trial = self._next(claim, trials)
                        if trial is None:  # the last ones are another process's
                            return
                        note = self._train(trial, prune)
                    progress.advance(min(trials, self.finished) - shown, note=f"trial {trial.number + 1}: {note}")
                    shown = min(trials, self.finished)
        except KeyboardInterrupt:
            raise InterruptedRunError(
                f"tuning '{self.plan.name}' was interrupted after {self.finished} of {trials} trials; the same command goes on "
                f"with it, and --only-report shows what there is"
            ) from None

    @property
    def finished(self) -> int:
        """Number of trials that have ended."""
        return sum(trial.state.is_finished() for trial in self.study.get_trials(deepcopy=False))

    def _next(self, claim: ExitStack, most: int) -> Any:
        """Claim a trial that a process has left unfinished, or a new one; None if there are enough."""
        states = self._optuna.trial.TrialState
        with claimed(self._trials / ".locks" / "next", wait=True):
            trials = self.study.get_trials(deepcopy=False)
            for left in trials:
                if left.state == states.RUNNING and claim.enter_context(claimed(self._lock(left.number))):
                    return self._optuna.trial.Trial(self.study, left._trial_id)
            if sum(trial.state != states.WAITING for trial in trials) >= most:
                return None
            if not trials and (own := setting_values(self.space, self.recipe)) is not None:
                self.study.enqueue_trial(own, user_attrs={OWN: True})
            trial = self.study.ask()
            claim.enter_context(claimed(self._lock(trial.number)))
            return trial

    def _lock(self, number: int) -> Path:
        return self._trials / ".locks" / f"{number:04d}"

    def _train(self, trial: Any, prune: bool) -> str:
        """Train with the settings of a trial; return how it ended."""
        optuna, directory = self._optuna, self._trials / f"{trial.number:04d}"
        settings = suggested(self.space, trial)
        say(f"trial {trial.number + 1}: {', '.join(settings)}", err=True)
        reported = frozenset(self.study.get_trials(deepcopy=False)[trial.number].intermediate_values)
        pruning = OptunaPruning(trial, SELECTION_METRIC, prune=prune, reported=reported)
        try:
            # New items are calibrated when the recipe is trained: that changes nothing of what is compared here.
            recipe = override(self.recipe, [*settings, "train.cold_budget=0"])
            directory.mkdir(exist_ok=True)
            result = Trainer(recipe, self._dataset, directory, callbacks=[pruning]).run(resume=True)
            self.study.tell(trial, result.validation[SELECTION_METRIC])
            note = f"{SELECTION_METRIC} {result.validation[SELECTION_METRIC]:.4f}"
        except optuna.TrialPruned:
            self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            note = "pruned"
        except Exception as error:  # what the settings of one trial lead to says nothing about the others
            raise_if_received()
            reason = str(error) if isinstance(error, RfError) else f"{type(error).__name__}: {error}"
            trial.set_user_attr(REASON, reason)
            self.study.tell(trial, state=optuna.trial.TrialState.FAIL)
            if isinstance(error, _OF_ALL):
                raise
            note = f"failed: {reason}"
        for kept in ("checkpoints", "best", "tensorboard"):
            shutil.rmtree(directory / kept, ignore_errors=True)
        return note


def suggested(space: Space, trial: Any) -> list[str]:
    """Return the settings of a trial, as `--set` takes them."""
    return [f"{name}={axis.suggest(trial, name)}" for name, axis in space.items()]


def tuning_directory(settings: Settings, name: str) -> Path:
    """Return where a tuning of that name lies.

    Raises:
        UsageError: the name is not usable.
    """
    return settings.workspace.root / "tunings" / check_name("tuning", name)


def _same(there: TuningPlan, plan: TuningPlan) -> None:
    before, now = asdict(there), asdict(plan)
    if other := [key for key in now if before[key] != now[key]]:
        raise UsageError(
            f"tuning '{plan.name}' was begun with another {' and '.join(other)}; repeat the command it was begun with, or choose "
            f"another --name"
        )


def _optuna() -> Any:
    """Return Optuna, without what it says about itself.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"rf tune needs the Python package '{error.name}' of the extra 'tune', which is not installed: run "
            f"`pip install 'retrievalformer[tune]'`"
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


@contextmanager
def quiet() -> Iterator[None]:
    """Keep back warnings of Optuna about parts that may change."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="optuna")
        yield
