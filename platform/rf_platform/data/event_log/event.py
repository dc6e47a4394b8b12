"""One recorded interaction."""

import json
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

ANSWER = "rf_request_id"
"""Value of an event with the request id of the answer that had shown the item: in the log, and in no table of interactions."""
ORDER_OFFSET = 1 << 48
"""Added to an event's number it gives its ``input_order``: among interactions of one moment, the imported ones come first."""


@dataclass(frozen=True, kw_only=True)
class Event:
    """An interaction that was checked."""

    event_id: str
    """The same id is the same event."""
    user_id: str
    """As text, whatever type ids have."""
    item_id: str
    timestamp_us: int
    """Time of the event: microseconds since 1970, UTC."""
    values: dict[str, Any] = field(default_factory=dict)
    """Further columns of the interactions table, ``event_type`` among them, and :data:`ANSWER`; a missing value is left out."""

    @property
    def digest(self) -> bytes:
        """16 bytes of the event id that are kept for ever, for deduplication."""
        return blake2b(self.event_id.encode(), digest_size=16).digest()

    def written(self) -> str:
        """Return the values as they are stored."""
        return json.dumps(self.values, separators=(",", ":"), ensure_ascii=False, sort_keys=True)


@dataclass(frozen=True, kw_only=True)
class LoggedEvent(Event):
    """An event of the log."""

    sequence: int
    """Its number: greater than that of every event recorded before."""
