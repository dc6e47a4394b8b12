"""A policy checked before it is applied: against the features and the items of a bundle and its live catalog."""

import pyarrow.parquet as pq

from rf_platform.bundle import files
from rf_platform.errors import ConfigError, UsageError
from rf_platform.features.encode import FeatureEncoder
from rf_platform.features.spec import FeatureSpec
from rf_platform.policies import Policy
from rf_platform.registry import BundleRecord, PolicyRecord, Registry, fetched
from rf_platform.registry.journal import CatalogJournal
from rf_platform.text import shown
from rf_serving.policies.compiled import CompiledPolicy
from rf_training.model.goals import goal_names
from rf_training.model.storage import read_config


def check_policy(policy: Policy, named: str, bundle: BundleRecord, journal: CatalogJournal) -> CompiledPolicy:
    """Hold a policy against a bundle as it is served: its features, and the items that it has and the journal changed since.

    Args:
        policy: the policy.
        named: what it is called in messages, such as its file.
        bundle: the bundle.
        journal: changes of the live catalog.

    Raises:
        ConfigError: a feature, an operator, a value or an item does not exist; the message begins with ``named`` and its path.
    """
    spec = FeatureSpec.load(bundle.path / files.SPEC)
    try:
        compiled = CompiledPolicy.compile(policy, spec, goals=_goals(bundle, spec))
        _check_pins(compiled, bundle, spec, journal)
    except UsageError as error:
        raise ConfigError(f"{named}: {error} (bundle '{bundle.name}')") from error
    return compiled


def check_with_all(
    policy: Policy, named: str, registry: Registry, journal: CatalogJournal, bundle: str | None = None
) -> list[str]:
    """Hold a policy against a bundle, by default against all that answer; return their names.

    Args:
        policy: the policy.
        named: what it is called in messages.
        registry: says which bundles answer.
        journal: changes of the live catalog.
        bundle: name of the only bundle to look at.

    Raises:
        ConfigError: as :func:`check_policy`.
        NotFoundError: there is no such bundle.
    """
    plan = registry.traffic.plan()
    records = [registry.bundle(bundle)] if bundle is not None else [plan.active, plan.challenger]
    found = [fetched(registry, record) for record in records if record is not None]
    for record in found:
        check_policy(policy, named, record, journal)
    return [record.name for record in found]


def check_fit(record: PolicyRecord, bundle: BundleRecord) -> None:
    """Check that a bundle that is about to be served has all features that the policy in effect names.

    Raises:
        ConfigError: it lacks some; the message names them.
    """
    spec = FeatureSpec.load(bundle.path / files.SPEC)
    CompiledPolicy.of(record, bundle.name, spec, _goals(bundle, spec))


def _goals(bundle: BundleRecord, spec: FeatureSpec) -> tuple[str, ...]:
    """Return the goals of a bundle's model, without loading it; empty for one without any."""
    config = read_config(bundle.path / files.MODEL)
    return goal_names(FeatureEncoder.load(spec, bundle.path / files.ENCODER)) if config.goals else ()


def _check_pins(compiled: CompiledPolicy, bundle: BundleRecord, spec: FeatureSpec, journal: CatalogJournal) -> None:
    pinned = {
        f"placements.{name}.pins[{i}].item": pin.item
        for name, placement in compiled.policy.placements.items()
        for i, pin in enumerate(placement.pins)
    }
    if not pinned:
        return
    wanted = {str(item) for placement in compiled.placements.values() for item, _ in placement.pins}
    ids = pq.read_table(bundle.path / files.ITEMS, columns=[spec.item.join_key])[0].to_pylist()
    there = wanted & {str(item) for item in ids}
    for entry in journal.newest():
        if entry.item_id in wanted:
            (there.discard if entry.features is None else there.add)(entry.item_id)
    for path, item in pinned.items():
        if item.strip() not in there:
            raise UsageError(f"{path}: the catalog has no item {shown(item)}; pin one that it has")
