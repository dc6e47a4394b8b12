"""Leave-one-out from which some items are removed but as targets, so that training has never met them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.event_log import (
    TEST,
    TRAIN,
    VALIDATION,
    Assignment,
    EventLog,
    LogPart,
    log_parts,
)
from rf_platform.dataset.protocols.leave_one_out import last_two_held_out

ChooseItems = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int32]], npt.NDArray[np.integer]]
"""From users and the items of their targets to the items that are to be cold."""


def hold_out_cold_items(log: EventLog, choose_test: ChooseItems, choose_validation: ChooseItems) -> Assignment:
    """Hold out the last two events of each user, with cold items among the targets of both parts.

    1. The last event of a user is the test target. Every other event of a test-cold item is removed.
    2. The last event left before the test target is the validation target. Every training event of a validation-cold item
       that is left is removed.

    A user with fewer than three events left after a removal is for training only, and even so without cold items. Targets
    of all other items stay, so that one dataset and one model serve warm and cold targets alike. Where the items of the two
    parts overlap, an item is test-cold.

    Args:
        log: all events.
        choose_test: finds the test-cold items, given the users with a test target and its items.
        choose_validation: finds the validation-cold items, given the users with a validation target, once the test-cold
            items are removed, and its items.
    """
    items = 1 + max((int(part.item.max()) for part in log_parts(log) if len(part.item)), default=-1)
    none = np.zeros(items, bool)

    def choose(chooser: ChooseItems, code: int, test_cold: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
        """Choose items by the targets that are left after the test-cold items are removed."""
        users, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int32)]
        for part in log_parts(log):
            rows = np.flatnonzero(last_two_held_out(part.offsets, _kept(part, test_cold, TEST)) == code)
            users.append(part.chunk.users.start + np.searchsorted(part.offsets, rows, side="right") - 1)
            targets.append(part.item[rows])
        cold = np.zeros(items, bool)
        cold[chooser(np.concatenate(users), np.concatenate(targets))] = True
        return cold

    test_cold = choose(choose_test, TEST, none)
    validation_cold = choose(choose_validation, VALIDATION, test_cold) & ~test_cold
    split = np.empty(log.offsets[-1], np.int8)
    for part in log_parts(log):
        kept = _kept(part, test_cold, TEST)
        kept = _kept(part, test_cold | validation_cold, VALIDATION, TEST, kept=kept)
        split[part.chunk.events] = last_two_held_out(part.offsets, kept)
    return Assignment(
        split=split,
        facts={"test_cold_items": int(test_cold.sum()), "validation_cold_items": int(validation_cold.sum())},
    )


def _kept(
    part: LogPart, cold: npt.NDArray[np.bool_], *targets: int, kept: npt.NDArray[np.bool_] | None = None
) -> npt.NDArray[np.bool_]:
    """Remove the events of cold items that are not such targets, then those of users who are left with too few."""
    kept = np.ones(len(part.item), bool) if kept is None else kept
    warm = ~cold[part.item]
    kept = kept & (warm | np.isin(last_two_held_out(part.offsets, kept), targets))
    left: npt.NDArray[np.bool_] = kept & (warm | (last_two_held_out(part.offsets, kept) != TRAIN))
    return left
