"""Event types that a policy names, held against those of the log: one that no event has is noted, since it may come yet."""

from collections.abc import Collection, Iterator

from rf_platform.errors import RfError
from rf_platform.failures import summary
from rf_platform.features.event_weights import unknown_type
from rf_platform.features.meanings import EVENT_TYPE, Rules, event_types
from rf_platform.policies import Policy
from rf_platform.settings import Settings
from rf_serving.event_counts import log_source
from rf_serving.event_counts.whole_log import whole_log


def notes_on_types(policy: Policy, settings: Settings, rules: Rules, *, whole_ids: bool) -> list[str]:
    """Return a sentence for each event type of a policy that no event of the log has.

    Args:
        policy: the policy.
        settings: the workspace with the log.
        rules: meanings of events.
        whole_ids: whether ids of items are integers.
    """
    named = list(dict.fromkeys(_named(policy)))
    if not named:
        return []
    try:
        types = _logged(settings, rules, whole_ids=whole_ids)
    except RfError as error:
        return [f"event types are not checked, since the event log cannot be read: {summary(error)}"]
    return [unknown_type(name, types, path) for path, name in named if name not in types]


def _named(policy: Policy) -> Iterator[tuple[str, str]]:
    """Yield the event types of a policy, each behind its path."""
    for name, listed in policy.lists.items():
        yield from ((f"lists.{name}.event_types", each) for each in listed.event_types)
        yield from ((f"lists.{name}.weights", each) for each in listed.weights or ())
    for name, placement in policy.placements.items():
        for number, rule in enumerate(placement.seen or ()):
            yield from ((f"placements.{name}.seen[{number}].event_types", each) for each in rule.event_types)


def _logged(settings: Settings, rules: Rules, *, whole_ids: bool) -> Collection[str]:
    source = log_source(settings)
    try:
        with whole_log(
            source.log, source.parts, source.interactions, rules, whole_ids=whole_ids, clock=source.clock
        ) as log:
            columns = [row[0] for row in log.db.execute(f"DESCRIBE SELECT * FROM {log.relation} AS l").fetchall()]
            return event_types(log.db, f"{log.relation} AS l") if EVENT_TYPE in columns else []
    finally:
        source.log.close()
