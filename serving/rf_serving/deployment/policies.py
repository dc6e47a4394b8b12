"""Policies beside bundles: the version that fits what answers, and a refusal of one that does not."""

from collections.abc import Sequence

import structlog

from rf_platform.errors import ConfigError
from rf_platform.registry import PolicyRecord
from rf_serving.deployment.loader import Loaded
from rf_serving.deployment.metrics import DeploymentMetrics
from rf_serving.policies import CompiledPlacement, CompiledPolicy

Pair = tuple[Loaded, PolicyRecord | None]
"""A bundle and the policy that it answers by."""


class PolicyFit:
    """Holds policies against the bundles that are to answer by them."""

    def __init__(self, metrics: DeploymentMetrics) -> None:
        self._metrics, self._log = metrics, structlog.get_logger("rf_serving")
        self._told: set[tuple[int, str, str]] = set()

    def first(self, wanted: Sequence[Pair], reasons: list[str]) -> Pair:
        """Return the first pair that fits, the last one if none does before it; the reasons of those before it are added.

        Args:
            wanted: pairs, the one that the registry says first, the one that is in service last.
            reasons: why something is not as the registry says.
        """
        for loaded, record in wanted[:-1]:
            if (fault := self.fault(loaded, record)) is None:
                return loaded, record
            if fault not in reasons:
                reasons.append(fault)
        return wanted[-1]

    def fault(self, loaded: Loaded, record: PolicyRecord | None) -> str | None:
        """Return why a policy does not fit a bundle; None if it does."""
        try:
            self.compiled(loaded, record)
        except ConfigError as error:
            self._log.error("policy refused", policy=record and record.version, bundle=loaded.name, reason=str(error))
            return str(error)
        return None

    def compiled(self, loaded: Loaded, record: PolicyRecord | None) -> CompiledPolicy | None:
        """Return a policy in the terms of a bundle.

        Raises:
            ConfigError: it does not fit; the message names the bundle and the field.
        """
        if record is None:
            return None
        engine = loaded.route.engine
        engine.rules.skipped = self._skipped
        return CompiledPolicy.of(record, loaded.name, engine.bundle.spec, engine.bundle.goals)

    def _skipped(self, placement: CompiledPlacement, what: str) -> None:
        """Count a rule that an answer does without, and log it the first time."""
        self._metrics.skipped_rules.labels(placement.name).inc()
        told = placement.version, placement.name, what
        if told not in self._told:
            self._told.add(told)
            self._log.warning(
                "rule skipped",
                policy=placement.version,
                placement=placement.name,
                rule=what,
                remedy="change it and run `rf policy apply`",
            )
