"""Leave-one-out from which some items are removed but as targets, so that training has never met them."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.event_log import TEST, TRAIN, VALIDATION, Assignment, EventLog, user_of_event
from rf_platform.dataset.protocols.leave_one_out import last_two_held_out

ChooseItems = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int32]], npt.NDArray[np.integer]]
"""From users and the items of their targets to the items that are to be cold."""


def hold_out_cold_items(log: EventLog, choose_test: ChooseItems, choose_validation: ChooseItems) -> Assignment:
    """Hold out the last two events of each user, with cold items among the targets of both parts.

    1. The last event of a user is the test target. Every other event of a test-cold item is removed.
    2. The last event left before the test target is the validation target. Every training event of a validation-cold item
       that is left is removed.

    Whoever has fewer than three events left after a removal is for training only, and even so without cold items. Targets
    of all other items stay, so that one dataset and one model serve warm and cold targets alike. Where the items of the two
    parts overlap, an item is test-cold.

    Args:
        log: all events.
        choose_test: finds the test-cold items, given the users with a test target and its items.
        choose_validation: finds the validation-cold items, given the users with a validation target, once the test-cold
            items are removed, and its items.
    """
    offsets, item = log.offsets, log.item
    items = int(item.max()) + 1 if len(item) else 0
    user = user_of_event(offsets)
    kept = np.ones(len(item), bool)

    def choose(split: npt.NDArray[np.int8], code: int, chooser: ChooseItems) -> npt.NDArray[np.bool_]:
        targets = np.flatnonzero(split == code)
        cold = np.zeros(items, bool)
        cold[chooser(user[targets], item[targets])] = True
        return cold

    def remove(cold: npt.NDArray[np.bool_], *targets: int) -> npt.NDArray[np.int8]:
        """Remove the events of cold items that are not such targets, then those of users who are left with too few."""
        nonlocal kept
        kept &= ~cold[item] | np.isin(last_two_held_out(offsets, kept), targets)
        kept &= ~cold[item] | (last_two_held_out(offsets, kept) != TRAIN)
        return last_two_held_out(offsets, kept)

    test_cold = choose(last_two_held_out(offsets), TEST, choose_test)
    split = remove(test_cold, TEST)
    validation_cold = choose(split, VALIDATION, choose_validation) & ~test_cold
    split = remove(test_cold | validation_cold, VALIDATION, TEST)
    return Assignment(
        split=split,
        facts={"test_cold_items": int(test_cold.sum()), "validation_cold_items": int(validation_cold.sum())},
    )
