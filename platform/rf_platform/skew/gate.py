"""Gate of promotions and refreshes: the last requests are replayed before another bundle takes over."""

from collections.abc import Sequence
from dataclasses import dataclass

from rf_platform.errors import NotFoundError, RunError, UsageError
from rf_platform.features.read import read_definitions
from rf_platform.features.store import open_store
from rf_platform.registry import Registry
from rf_platform.settings import Settings
from rf_platform.skew.encoders import pairs_of
from rf_platform.skew.replay import ReplayOptions, replay
from rf_platform.skew.report import ReplayReport
from rf_platform.skew.results import SkewResults

OFF, REFUSE = "off", "refuse"
"""Policies beside ``warn``: differences are said, and nothing else."""


@dataclass(frozen=True, kw_only=True)
class SkewVerdict:
    """Verdict of the gate."""

    passed: bool
    """Whether another bundle may take over, by the policy."""
    said: str
    """Result of the replay in one sentence, or why there was none."""


def replay_workspace(settings: Settings, options: ReplayOptions) -> ReplayReport:
    """Replay the serving log of a workspace, and keep the result; see :func:`~rf_platform.skew.replay.replay`."""
    definitions = read_definitions(open_store(settings), settings.feature_service)
    registry = Registry.of(settings)
    names = [b.name for b in registry.bundles() if b.removed_at is None]
    report = replay(settings, definitions, pairs_of(registry, names), options)
    SkewResults(settings.workspace.skew).keep("replay", report.to_dict())
    return report


def parse_allowed(given: Sequence[str], where: str) -> tuple[float, dict[str, float]]:
    """Read accepted shares of differences: ``0.01`` for all fields, ``view__field=0.1`` for one.

    Raises:
        UsageError: one is neither; the message begins with ``where``.
    """
    share, by_field = 0.0, dict[str, float]()
    for text in given:
        name, _, number = text.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value <= 1:
            raise UsageError(f"{where} {text!r}: write SHARE or FIELD=SHARE, a share from 0 to 1, such as 0.01")
        if name:
            by_field[name.strip()] = value
        else:
            share = value
    return share, by_field


def judge_skew(settings: Settings, policy: str) -> SkewVerdict:
    """Replay the last requests, and judge them by the policy and the accepted shares of the settings.

    Args:
        settings: the workspace, with the accepted shares.
        policy: ``warn``: differences are said; ``refuse``: they are no pass. Where nothing was logged, it is passed.

    Raises:
        UsageError: the accepted shares cannot be read.
        RfError: the tables cannot be read.
    """
    share, by_field = parse_allowed([each for each in settings.skew_allow.split(",") if each.strip()], "RF_SKEW_ALLOW")
    options = ReplayOptions(allowed=share, allowed_by_field=by_field, grace_seconds=settings.skew_grace_seconds)
    try:
        report = replay_workspace(settings, options)
    except NotFoundError as error:
        return SkewVerdict(passed=True, said=f"nothing was replayed: {error}")
    return SkewVerdict(passed=policy != REFUSE or not report.failed, said=report.summary())


def check_skew(settings: Settings, policy: str) -> list[str]:
    """Replay the last requests before a promotion, and return what is to be said of it.

    Args:
        settings: the workspace, with the accepted shares.
        policy: ``off``: nothing is replayed; the others as for :func:`judge_skew`.

    Raises:
        RunError: it is not passed.
        RfError: as for :func:`judge_skew`.
    """
    if policy == OFF:
        return []
    verdict = judge_skew(settings, policy)
    if not verdict.passed:
        raise RunError(
            f"skew: {verdict.said}; `rf skew replay` has examples. Mend it, accept it with RF_SKEW_ALLOW, or promote with "
            f"--skew warn"
        )
    return [f"skew: {verdict.said}"]
