"""Record of what clients rely on in the contracts, ``protos/contracts.json``: ``check_stubs.py`` sees that it only grows.

Recorded are methods with their messages, fields with number, name, type and oneof, and values of enumerations. A field that is
given up leaves its number ``reserved``. `buf breaking` finds more kinds of changes; this needs nothing that is not installed.
"""

import json
from collections.abc import Iterator, Mapping

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
)

_GIVEN_UP = " (given up)"
_MOST = 1000  # numbers of a reserved range


def record(files: FileDescriptorSet, package: str) -> str:
    """Return what is to be recorded of the contracts of a package, as JSON."""
    parts = dict(sorted(part for file in files.file if file.package == package for part in _of_file(file)))
    return json.dumps(parts, indent=1, ensure_ascii=False) + "\n"


def broken(recorded: str, made: str) -> list[str]:
    """Return what is no longer as it was recorded, a sentence each."""
    found: Mapping[str, str] = json.loads(made)
    return [
        f"{name} was `{was}` and is {f'`{found[name]}`' if name in found else 'gone'}"
        for name, was in json.loads(recorded).items()
        if found.get(name) != was and name + _GIVEN_UP not in found
    ]


def _of_file(file: FileDescriptorProto) -> Iterator[tuple[str, str]]:
    for service in file.service:
        for method in service.method:
            streams = " of streams" * method.client_streaming + " to streams" * method.server_streaming
            yield f"{service.name}.{method.name}", f"{method.input_type} → {method.output_type}{streams}"
    for enum in file.enum_type:
        yield from _of_enum("", enum)
    for message in file.message_type:
        yield from _of_message("", message)


def _of_message(prefix: str, message: DescriptorProto) -> Iterator[tuple[str, str]]:
    name = f"{prefix}{message.name}"
    for field in message.field:
        yield f"{name} field {field.number}", _field(message, field)
    for each in message.reserved_range:
        for number in range(each.start, min(each.end, each.start + _MOST)):
            yield f"{name} field {number}{_GIVEN_UP}", "reserved"
    for enum in message.enum_type:
        yield from _of_enum(f"{name}.", enum)
    for nested in message.nested_type:
        yield from _of_message(f"{name}.", nested)


def _field(message: DescriptorProto, field: FieldDescriptorProto) -> str:
    kind = field.type_name or FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    if field.proto3_optional:
        return f"{kind} {field.name} optional"
    of = f" of {message.oneof_decl[field.oneof_index].name}" if field.HasField("oneof_index") else ""
    return f"{repeated}{kind} {field.name}{of}"


def _of_enum(prefix: str, enum: EnumDescriptorProto) -> Iterator[tuple[str, str]]:
    for value in enum.value:
        yield f"{prefix}{enum.name} value {value.number}", value.name
    for each in enum.reserved_range:
        for number in range(each.start, min(each.end, each.start + _MOST) + 1):
            yield f"{prefix}{enum.name} value {number}{_GIVEN_UP}", "reserved"
