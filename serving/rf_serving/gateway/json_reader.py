"""Messages from JSON, in protobuf's own mapping.

:mod:`google.protobuf.json_format` reads the same, and takes three times as long for a thousand items, and a hundred times for a
long list of ids, while all other calls wait. Here the fields of a message are looked up once, and what is wrong is named by its
path, as every other error of a request is.
"""

import binascii
import json
import math
import re
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping
from functools import cache
from struct import unpack
from typing import Any, NamedTuple, NoReturn

from google.protobuf import json_format
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from google.protobuf.message import EncodeError, Message
from google.protobuf.message_factory import GetMessageClass

from rf_platform.errors import UsageError

WELL_KNOWN = "google.protobuf."
"""Package of the messages with a JSON of their own, which is left to :mod:`google.protobuf.json_format`."""
_INTEGER = re.compile(r"-?[0-9]{1,20}")
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LARGEST_FLOAT = unpack("<f", b"\xff\xff\x7f\x7f")[0]
_SHOWN = 40

Read = Callable[[Any], Any]
"""Turns a JSON value into what a message's constructor takes."""


class _WrongError(Exception):
    """A value is wrong; its path is put together on the way up."""

    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem, self.path = problem, ""

    def within(self, name: str) -> "_WrongError":
        self.path = name + ("." if self.path and not self.path.startswith("[") else "") + self.path
        return self


class _Field(NamedTuple):
    name: str
    read: Read
    oneof: str | None


def read_message(kind: type[Message], text: bytes) -> bytes:
    """Return the message that a JSON text stands for, serialised.

    Args:
        kind: of the message.
        text: a JSON object, in UTF-8. A field goes by its JSON name, ``itemId``, or by that of the contract, ``item_id``; one
            that the message does not have is wrong.

    Raises:
        UsageError: it is no JSON, or a field is wrong; the message begins with the field's path.
    """
    try:
        given = json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_no_constant)
    except _WrongError as error:
        raise UsageError(f"the body is no JSON object: {error.problem}") from error
    except RecursionError as error:
        raise UsageError("the body is nested deeper than any message is") from error
    except ValueError as error:  # of JSON, or of UTF-8
        raise UsageError(f"the body is no JSON object in UTF-8: {error}") from error
    try:
        return kind(**_reader(kind.DESCRIPTOR)(given)).SerializeToString()
    except _WrongError as error:
        raise UsageError(f"{error.path}: {error.problem}" if error.path else error.problem) from error
    except (RecursionError, EncodeError) as error:
        raise UsageError("the body is nested deeper than a message may be, which is 100 levels") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        raise _WrongError(f"{_shown(next(name for name in names if names.count(name) > 1))} is there twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise _WrongError(f'{name} is not JSON; write it as the text "{name}"')


@cache
def _reader(kind: Descriptor) -> Read:
    """Return what turns a JSON object into the arguments of a message's constructor."""
    fields: dict[str, _Field] = {}

    def read(given: Any) -> dict[str, Any]:
        if type(given) is not dict:
            raise _WrongError(f"{_shown(given)} is no {kind.name}; give a JSON object")
        found: dict[str, Any] = {}
        oneofs: set[str] = set()
        for name, value in given.items():
            field = fields.get(name)
            if field is None:
                known = ", ".join(each.json_name for each in kind.fields) or "none"
                raise _WrongError(f"{kind.name} has no such field; it has {known}").within(_plain(name))
            if value is None:
                continue
            if field.name in found:
                raise _WrongError("is given twice, by both of its names").within(field.name)
            if field.oneof is not None:
                if field.oneof in oneofs:
                    raise _WrongError(f"another field of {field.oneof} is given, too").within(field.name)
                oneofs.add(field.oneof)
            try:
                found[field.name] = field.read(value)
            except _WrongError as error:
                raise error.within(field.name) from None
        return found

    # After `read` is there: messages may contain themselves.
    for each in kind.fields:
        oneof = None if each.containing_oneof is None else each.containing_oneof.name
        fields[each.name] = fields[each.json_name] = _Field(each.name, _field(each), oneof)
    return read


def _field(field: FieldDescriptor) -> Read:
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        return _map(field.message_type)
    one = _value(field)
    if not field.is_repeated:
        return one

    def read(given: Any) -> list[Any]:
        if type(given) is not list:
            raise _WrongError(f"{_shown(given)} is no list")
        at = 0
        made: list[Any] = []
        try:
            for at, value in enumerate(given):  # noqa: B007 (which one is wrong)
                made.append(one(value))
        except _WrongError as error:
            raise error.within(f"[{at}]") from None
        return made

    return read


def _map(entry: Descriptor) -> Read:
    key, value = entry.fields_by_name["key"], entry.fields_by_name["value"]
    read_key, read_value = _MAP_KEYS.get(key.cpp_type) or _value(key), _value(value)

    def read(given: Any) -> dict[Any, Any]:
        if type(given) is not dict:
            raise _WrongError(f"{_shown(given)} is no JSON object")
        made: dict[Any, Any] = {}
        for name, each in given.items():
            try:
                made[read_key(name)] = read_value(each)
            except _WrongError as error:
                raise error.within(f"[{json.dumps(name, ensure_ascii=False)}]") from None
        return made

    return read


def _value(field: FieldDescriptor) -> Read:
    if field.message_type is not None:
        kind = field.message_type
        if kind.full_name.startswith(WELL_KNOWN):
            return _well_known(GetMessageClass(kind))
        # Looked up when needed: the message may be the one that this field belongs to.
        return lambda given: _reader(kind)(given)
    if field.type == FieldDescriptor.TYPE_BYTES:
        return _bytes
    if field.enum_type is not None:
        return _enum(field.enum_type)
    return _SCALARS[field.cpp_type]


def _integer(low: int, high: int) -> Read:
    def read(given: Any) -> int:
        number = given
        if (type(given) is str and _INTEGER.fullmatch(given)) or (type(given) is float and given.is_integer()):
            number = int(given)
        if type(number) is not int:
            raise _WrongError(f"{_shown(given)} is no whole number")
        if not low <= number <= high:
            raise _WrongError(f"{_shown(given)} is not within {low} to {high}")
        return number

    return read


def _float(largest: float) -> Read:
    def read(given: Any) -> float:
        if type(given) is str:
            if given in _NOT_FINITE:
                return _NOT_FINITE[given]
            number = float(given) if _NUMBER.fullmatch(given) else None
        else:
            try:
                number = float(given) if type(given) in (int, float) else None
            except OverflowError:
                number = math.inf
        if number is None:
            raise _WrongError(f"{_shown(given)} is no number")
        if not -largest <= number <= largest:
            raise _WrongError(f"{_shown(given)} is too large")
        return number

    return read


def _text(given: Any) -> str:
    if type(given) is not str:
        raise _WrongError(f"{_shown(given)} is no text")
    if not given.isascii() and any("\ud800" <= each <= "\udfff" for each in given):
        raise _WrongError("has half of a surrogate pair, which no text in UTF-8 can have")
    return given


def _bytes(given: Any) -> bytes:
    text = _text(given).rstrip("=").replace("+", "-").replace("/", "_")
    try:
        if not re.fullmatch(r"[A-Za-z0-9_-]*", text):
            raise binascii.Error
        return urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except binascii.Error:
        raise _WrongError(f"{_shown(given)} is no base64") from None


def _boolean(given: Any) -> bool:
    if type(given) is not bool:
        raise _WrongError(f"{_shown(given)} is neither true nor false")
    return given


def _key_boolean(given: Any) -> bool:
    if given not in ("true", "false"):
        raise _WrongError(f"{_shown(given)} is neither true nor false")
    return bool(given == "true")


def _enum(kind: EnumDescriptor) -> Read:
    numbers = {name: each.number for name, each in kind.values_by_name.items()}
    any_number = _integer(-(2**31), 2**31 - 1)

    def read(given: Any) -> int:
        if type(given) is str and given in numbers:
            return numbers[given]
        try:
            return int(any_number(given))
        except _WrongError:
            raise _WrongError(f"{_shown(given)} is none of {', '.join(numbers)}") from None

    return read


def _well_known(kind: type[Message]) -> Read:
    def read(given: Any) -> Message:
        try:
            return json_format.ParseDict(given, kind())
        except (json_format.ParseError, ValueError, TypeError, AttributeError) as error:
            raise _WrongError(f"{_shown(given)} is no {kind.DESCRIPTOR.name}: {error}") from error

    return read


_KINDS = FieldDescriptor
_SCALARS: Mapping[int, Read] = {
    _KINDS.CPPTYPE_INT32: _integer(-(2**31), 2**31 - 1),
    _KINDS.CPPTYPE_INT64: _integer(-(2**63), 2**63 - 1),
    _KINDS.CPPTYPE_UINT32: _integer(0, 2**32 - 1),
    _KINDS.CPPTYPE_UINT64: _integer(0, 2**64 - 1),
    _KINDS.CPPTYPE_FLOAT: _float(_LARGEST_FLOAT),
    _KINDS.CPPTYPE_DOUBLE: _float(1.7976931348623157e308),
    _KINDS.CPPTYPE_BOOL: _boolean,
    _KINDS.CPPTYPE_STRING: _text,
}
_MAP_KEYS: Mapping[int, Read] = {_KINDS.CPPTYPE_BOOL: _key_boolean}


def _shown(value: Any) -> str:
    """Return a value as JSON, cut if it is long."""
    if type(value) in (dict, list):
        return "an object" if type(value) is dict else "a list"
    text = json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _plain(name: str) -> str:
    """Return a name that no field has, as a part of a path."""
    return name if re.fullmatch(r"\w{1,40}", name, re.ASCII) else f"[{_shown(name)}]"
