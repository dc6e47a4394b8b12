"""OpenAPI 3.1 document of the services, made from their contracts with comments; ``check_stubs.py`` keeps it."""

import json
import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
    FileDescriptorSet,
    MethodDescriptorProto,
    ServiceDescriptorProto,
)

from rf_serving.gateway.replies import HTTP_STATUSES, code_of
from rf_serving.server.rpc import METHOD_ROLES, METHOD_STATUSES, STATUSES

Schema = dict[str, Any]

_F = FieldDescriptorProto
_SCALARS: Mapping[int, Schema] = {
    _F.TYPE_DOUBLE: {"type": "number", "format": "double"},
    _F.TYPE_FLOAT: {"type": "number", "format": "float"},
    _F.TYPE_INT32: {"type": "integer", "format": "int32"},
    _F.TYPE_SINT32: {"type": "integer", "format": "int32"},
    _F.TYPE_UINT32: {"type": "integer", "format": "uint32", "minimum": 0},
    _F.TYPE_INT64: {"type": "string", "format": "int64"},
    _F.TYPE_SINT64: {"type": "string", "format": "int64"},
    _F.TYPE_UINT64: {"type": "string", "format": "uint64"},
    _F.TYPE_BOOL: {"type": "boolean"},
    _F.TYPE_STRING: {"type": "string"},
    _F.TYPE_BYTES: {"type": "string", "contentEncoding": "base64"},
}
_WELL_KNOWN: Mapping[str, Schema] = {
    "Timestamp": {"type": "string", "format": "date-time"},
    "Duration": {"type": "string"},
    "FieldMask": {"type": "string"},
    "Struct": {"type": "object"},
    "Value": {},
    "Empty": {"type": "object"},
}
_FILE_MESSAGE, _FILE_ENUM, _FILE_SERVICE, _NESTED, _NESTED_ENUM, _FIELD, _VALUE, _METHOD = 4, 5, 6, 3, 4, 2, 2, 2
"""Numbers of the fields that paths in the information on sources are made of."""
_ROLE = re.compile(r'\s*Needs the role "\w+"\.\s*')
_ERRORS = re.compile(r"\s*Errors: [^.]*\.\s*")
_REQUEST_ID = {"x-request-id": {"description": "Of the request, as in the server's log.", "schema": {"type": "string"}}}


def document(files: FileDescriptorSet, package: str) -> str:
    """Return the document as JSON.

    Args:
        files: contracts, with the information on sources.
        package: prefix of the packages with the services and messages that are told.
    """
    paths: dict[str, Any] = {}
    schemas: dict[str, Schema] = {"Error": _error()}
    tags: list[Schema] = []
    for file in sorted(files.file, key=lambda each: each.name):
        if not file.package.startswith(package):
            continue
        said = {tuple(each.path): each.leading_comments for each in file.source_code_info.location}
        comments = _Comments(said)
        for place, message in enumerate(file.message_type):
            schemas |= _messages(message, "", (_FILE_MESSAGE, place), comments)
        for place, enum in enumerate(file.enum_type):
            schemas[enum.name] = _enum(enum, (_FILE_ENUM, place), comments)
        for place, service in enumerate(file.service):
            tags.append({"name": service.name, "description": comments.at(_FILE_SERVICE, place)})
            paths |= _paths(file, service, (_FILE_SERVICE, place), comments)
    made = {
        "openapi": "3.1.0",
        "info": {
            "title": "RetrievalFormer",
            "version": package.rpartition(".")[2],
            "description": "The methods of the server over HTTP: POST a JSON object in protobuf's JSON mapping. 64-bit integers "
            "are texts, and what is not set is left out.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"token": []}],
        "tags": tags,
        "paths": dict(sorted(paths.items())),
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "From `rf token add`."}},
        },
    }
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


class _Comments:
    def __init__(self, said: Mapping[tuple[int, ...], str]) -> None:
        self._said = said

    def at(self, *path: int) -> str:
        """Return the comment before something, its lines joined to paragraphs."""
        lines = [line.strip() for line in self._said.get(path, "").strip().splitlines()]
        return "\n".join(re.sub(r" {2,}", " ", part.replace("\n", " ")) for part in "\n".join(lines).split("\n\n"))


def _paths(
    file: FileDescriptorProto, service: ServiceDescriptorProto, path: tuple[int, ...], comments: _Comments
) -> dict[str, Any]:
    made = {}
    for place, method in enumerate(service.method):
        if not method.client_streaming and not method.server_streaming:
            said = comments.at(*path, _METHOD, place)
            made[f"/{file.package}.{service.name}/{method.name}"] = {"post": _operation(service, method, said)}
    return made


def _operation(service: ServiceDescriptorProto, method: MethodDescriptorProto, said: str) -> Schema:
    said = _ROLE.sub("", _ERRORS.sub("\n", said)).strip()
    role = METHOD_ROLES[service.name][method.name].name.lower()
    by_status = defaultdict(list)
    for name in METHOD_STATUSES[service.name][method.name]:
        by_status[HTTP_STATUSES[name]].append(name)
    errors = {
        str(status): {
            "description": "; ".join(f"`{code_of(name)}`: {STATUSES[name].when}" for name in names),
            "headers": _REQUEST_ID,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
        for status, names in sorted(by_status.items())
    }
    response = {
        "description": "The reply.",
        "headers": _REQUEST_ID,
        "content": {"application/json": {"schema": _reference(method.output_type)}},
    }
    return {
        "operationId": f"{service.name}_{method.name}",
        "tags": [service.name],
        "summary": said.partition(".")[0] + ".",
        "description": f'{said}\n\nNeeds the role "{role}", where the server wants tokens.',
        "requestBody": {"required": True, "content": {"application/json": {"schema": _reference(method.input_type)}}},
        "responses": {"200": response, **errors},
    }


def _messages(message: DescriptorProto, prefix: str, path: tuple[int, ...], comments: _Comments) -> dict[str, Schema]:
    name = prefix + message.name
    entries = {each.name: each for each in message.nested_type if each.options.map_entry}
    fields = {}
    for place, field in enumerate(message.field):
        schema = _field(field, entries)
        said = [comments.at(*path, _FIELD, place)]
        if field.HasField("oneof_index") and not field.proto3_optional:
            others = [
                f"`{each.json_name}`"
                for each in message.field
                if each.HasField("oneof_index") and each.oneof_index == field.oneof_index and each.name != field.name
            ]
            said.append(f"Not together with {' or '.join(others)}." if others else "")
        if text := " ".join(filter(None, said)):
            schema = {**schema, "description": text}
        fields[field.json_name] = schema
    made = {name: {"type": "object", "description": comments.at(*path), "properties": fields}}
    if not made[name]["description"]:
        del made[name]["description"]
    for place, nested in enumerate(message.nested_type):
        if not nested.options.map_entry:
            made |= _messages(nested, f"{name}.", (*path, _NESTED, place), comments)
    for place, enum in enumerate(message.enum_type):
        made[f"{name}.{enum.name}"] = _enum(enum, (*path, _NESTED_ENUM, place), comments)
    return made


def _field(field: FieldDescriptorProto, entries: Mapping[str, DescriptorProto]) -> Schema:
    entry = entries.get(field.type_name.rpartition(".")[2])
    if entry is not None:
        return {"type": "object", "additionalProperties": _value(entry.field[1])}
    schema = _value(field)
    return {"type": "array", "items": schema} if field.label == _F.LABEL_REPEATED else schema


def _value(field: FieldDescriptorProto) -> Schema:
    return dict(_SCALARS[field.type]) if field.type in _SCALARS else _reference(field.type_name)


def _reference(type_name: str) -> Schema:
    """Return where the schema of a type is; its name has no package, which is one for all."""
    if type_name.startswith(".google.protobuf."):
        return dict(_WELL_KNOWN[type_name.rpartition(".")[2]])
    return {"$ref": "#/components/schemas/" + re.sub(r"^\.[a-z0-9_.]+\.(?=[A-Z])", "", type_name)}


def _enum(enum: EnumDescriptorProto, path: tuple[int, ...], comments: _Comments) -> Schema:
    said = [comments.at(*path)]
    for place, value in enumerate(enum.value):
        if text := comments.at(*path, _VALUE, place):
            said.append(f"`{value.name}`: {text}")
    schema: Schema = {"type": "string", "enum": [value.name for value in enum.value]}
    if text := "\n".join(filter(None, said)):
        schema["description"] = text
    return schema


def _error() -> Schema:
    return {
        "type": "object",
        "description": "What went wrong.",
        "required": ["code", "message", "field"],
        "properties": {
            "code": {
                "type": "string",
                "enum": [code_of(name) for name in HTTP_STATUSES if name != "OK"],
                "description": "gRPC's status, in lower case.",
            },
            "message": {"type": "string"},
            "field": {
                "type": ["string", "null"],
                "description": "Path of the field that is wrong, as the contract names it.",
            },
        },
    }
