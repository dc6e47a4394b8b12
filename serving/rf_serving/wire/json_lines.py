"""Files of JSON objects, one a line, that commands send to a server; events among them."""

import json
import sys
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from time import time
from typing import Any

from rf_platform.errors import NotFoundError, UsageError
from rf_platform.failures import reading
from rf_platform.literals import read_time
from rf_platform.text import trimmed
from rf_protos.v1.features_pb2 import FeatureValue
from rf_protos.v1.feedback_pb2 import Event
from rf_serving.wire.values import message_value


def read_objects(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Read a file, or standard input where it is ``-``; yields where each object stands, for messages, and the object.

    A file may also be one JSON document: a list of objects, or an object with a list of ``items``, as ``rf query --json`` has.

    Raises:
        NotFoundError: the file cannot be read.
        UsageError: a line is no JSON object; the message has its number.
    """
    with reading("standard input" if str(file) == "-" else file, "name a text file of JSON lines", NotFoundError):
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    if (document := _document(text)) is not None:
        for number, given in enumerate(document, 1):
            if not isinstance(given, dict):
                raise UsageError(f"{file}, item {number}: not a JSON object but {type(given).__name__}")
            yield f"{file}, item {number}", given
        return
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        where = f"{file}, line {number}"
        try:
            given = json.loads(line)
        except ValueError as error:
            raise UsageError(f"{where}: not a JSON object: {error}") from error
        if not isinstance(given, dict):
            raise UsageError(f"{where}: not a JSON object but {type(given).__name__}")
        yield where, given


def _document(text: str) -> list[Any] | None:
    """Return the objects of a text that is one JSON document, or None if it is none: lines have an object each."""
    try:
        found = json.loads(text)
    except ValueError:
        return None
    if isinstance(found, dict) and isinstance(found.get("items"), list):
        found = found["items"]
    return found if isinstance(found, list) else None


def feature_value(value: Any, where: str) -> FeatureValue:
    """Return a value as messages carry it; null and empty lists are missing.

    Raises:
        UsageError: no feature has such a value; the message begins with ``where``.
    """
    match value:
        case None | []:
            return FeatureValue()
        case str():
            return message_value("string_value", value)
        case bool():
            return message_value("string_value", _text(value))
        case int() if -(2**63) <= value < 2**63:
            return message_value("int_value", value)
        case float():
            return message_value("double_value", value)
        case list() if all(isinstance(each, str) for each in value):
            return message_value("string_list", value)
        case list() if all(type(each) is int and -(2**63) <= each < 2**63 for each in value):
            return message_value("int_list", value)
        case list() if all(type(each) in (int, float) for each in value):
            return message_value("double_list", value)
        case list() if any(isinstance(each, str | bool) for each in value) and all(map(_is_single, value)):
            return message_value("string_list", [_text(each) for each in value if each is not None])
    raise UsageError(
        f"{where}: {value!r} is no value of a feature; give a text, a number, true or false, or a list of them"
    )


def _is_single(value: Any) -> bool:
    return value is None or isinstance(value, str | int | float)


def _text(value: Any) -> str:
    return json.dumps(value) if isinstance(value, bool) else str(value)


def read_events(file: Path) -> list[Event]:
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
        request_id=str(given.pop("request_id", "")),
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
    parsed = read_time(trimmed(str(written)))
    if parsed is None:
        raise UsageError(f"{where}: timestamp: {written!r} is not a time like 2024-05-31T18:00:00Z")
    return parsed
