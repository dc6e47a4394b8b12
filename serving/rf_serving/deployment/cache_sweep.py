"""Removes compacted catalogs of bundles that are not served any more."""

from contextlib import suppress
from pathlib import Path
from time import monotonic

import structlog

from rf_platform.errors import UnavailableError, UsageError
from rf_platform.registry import Registry, ServingPlan
from rf_serving.catalog.compaction.cache_directory import GRACE_SECONDS, directory_name, remove_unused

SWEEP_SECONDS = 60.0


class CacheSweep:
    """Looks now and then for what no bundle needs that is served, stands beside it, or is what a rollback returns to.

    Servers of other bundles (``rf serve --bundle``) keep theirs, because they use it: see
    :mod:`rf_serving.catalog.compaction.cache_directory`.
    """

    def __init__(self, cache: Path, registry: Registry) -> None:
        self._cache, self._registry = cache, registry
        self._log = structlog.get_logger("rf_serving")
        self._due = 0.0

    def step(self, plan: ServingPlan) -> None:
        """Sweep if it is time to; what goes wrong is logged, and changes nothing else."""
        if monotonic() < self._due:
            return
        self._due = monotonic() + SWEEP_SECONDS
        try:
            for removed in remove_unused(self._cache, self._needed(plan), GRACE_SECONDS):
                self._log.info("unused catalog removed", directory=removed.name, bytes=removed.bytes)
        except UnavailableError:  # the registry has just gone; the follower says so
            pass
        except Exception:
            self._log.exception("unused catalogs are not removed")

    def _needed(self, plan: ServingPlan) -> set[str]:
        bundles = [plan.active, plan.challenger, plan.shadow]
        with suppress(UsageError):  # nothing was served before
            bundles.append(self._registry.rollback_target())
        return {directory_name(each.name, each.manifest_sha256) for each in bundles if each is not None}
