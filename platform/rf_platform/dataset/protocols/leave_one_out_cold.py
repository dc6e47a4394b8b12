"""The paper's cold protocol: the last items of some users are cold for everyone."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from rf_platform.dataset.protocols.cold_targets import hold_out_cold_items
from rf_platform.dataset.protocols.event_log import Assignment, EventLog
from rf_platform.errors import UsageError
from rf_platform.ranges import Whole, check_fields


@dataclass(frozen=True, kw_only=True)
class LeaveOneOutCold:
    """LOOC (row R16): leave-one-out in which the last items of sampled users never occur in training.

    The test-cold items are the test targets of ``cold_users`` sampled users, and every user whose last item is one of them is a
    cold test case. The validation-cold items are the validation targets of other sampled users. See
    :func:`~rf_platform.dataset.protocols.cold_targets.hold_out_cold_items` for what is removed.
    """

    name: ClassVar[str] = "leave-one-out-cold"

    cold_users: Whole = 500
    """Users whose test target becomes a cold item; the paper takes 500."""
    validation_cold_users: Whole = 250
    """Other users whose validation target becomes a cold item."""
    seed: Whole = 0
    """Chooses the users."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        check_fields(self, "--")

    def assign(self, log: EventLog) -> Assignment:
        """Sample the users, then hold out.

        Raises:
            UsageError: There are fewer users with held-out events than are to be sampled.
        """
        rng = np.random.default_rng(self.seed)
        sampled = np.zeros(0, np.int64)

        def choose_test(users: npt.NDArray[np.int64], items: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
            nonlocal sampled
            chosen = self._sample(rng, len(users), self.cold_users, "--cold-users", "test")
            sampled = users[chosen]
            return items[chosen]

        def choose_validation(users: npt.NDArray[np.int64], items: npt.NDArray[np.int32]) -> npt.NDArray[np.int32]:
            items = items[~np.isin(users, sampled)]
            count = self.validation_cold_users
            return items[self._sample(rng, len(items), count, "--validation-cold-users", "validation")]

        return hold_out_cold_items(log, choose_test, choose_validation)

    def _sample(self, rng: np.random.Generator, users: int, count: int, flag: str, split: str) -> npt.NDArray[np.int64]:
        if count > users:
            raise UsageError(
                f"{flag}={count}, but only {users:,} {'other ' if split == 'validation' else ''}users have a {split} event; "
                f"sample fewer, e.g. `--cold-users {max(users // 20, 1)} --validation-cold-users {max(users // 40, 1)}`"
            )
        return rng.choice(users, count, replace=False)

    def to_dict(self) -> dict[str, Any]:
        """Name and parameters, as plain values for JSON."""
        return {"name": self.name, **asdict(self)}
