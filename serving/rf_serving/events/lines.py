"""Events written as JSON, one a line."""

import json
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from time import time
from typing import Any

from rf_platform.errors import UsageError
from rf_protos.v1.feedback_pb2 import Event
from rf_serving.wire.json_lines import feature_value, read_objects


def read_lines(file: Path) -> list[Event]:
    """Read a file of events; ``-`` is standard input.

    Raises:
        NotFoundError: the file cannot be read.
        UsageError: a line is no event; the message has its number.
    """
    return [_event(given, where) for where, given in read_objects(file)]


def _event(given: dict[str, Any], where: str) -> Event:
    digest = blake2b(json.dumps(given, sort_keys=True).encode(), digest_size=16).hexdigest()
    missing = [name for name in ("user_id", "item_id") if name not in given]
    if missing:
        raise UsageError(f"{where}: {missing[0]} is missing; an event has at least user_id and item_id")
    event = Event(
        event_id=str(given.pop("event_id", digest)),
        user_id=str(given.pop("user_id")),
        item_id=str(given.pop("item_id")),
        timestamp_us=_time(given, where),
    )
    for name, value in given.items():
        event.values[name].CopyFrom(feature_value(value, f"{where}: {name}"))
    return event


def _time(given: dict[str, Any], where: str) -> int:
    moment, written = given.pop("timestamp_us", None), given.pop("timestamp", None)
    if written is None:
        if moment is not None and not isinstance(moment, int):
            raise UsageError(f"{where}: timestamp_us: {moment!r} is not a whole number of microseconds since 1970")
        return int(time() * 1e6) if moment is None else moment
    try:
        parsed = datetime.fromisoformat(str(written))
    except ValueError as error:
        raise UsageError(f"{where}: timestamp: {written!r} is not a time like 2024-05-31T18:00:00Z") from error
    return round(parsed.replace(tzinfo=parsed.tzinfo or UTC).timestamp() * 1_000_000)
