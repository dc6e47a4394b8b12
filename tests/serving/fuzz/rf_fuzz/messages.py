"""Random messages of any type, by what its descriptor says."""

import random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message

from rf_fuzz.words import Words

_DEEPEST = 6
_INTEGER_BITS = {
    FieldDescriptor.TYPE_INT32: (32, True),
    FieldDescriptor.TYPE_SINT32: (32, True),
    FieldDescriptor.TYPE_INT64: (64, True),
    FieldDescriptor.TYPE_SINT64: (64, True),
    FieldDescriptor.TYPE_UINT32: (32, False),
    FieldDescriptor.TYPE_UINT64: (64, False),
}


def random_message(kind: type[Message], rng: random.Random, words: Words, depth: int = 0) -> Message:
    """Return a message with some of its fields set to likely, extreme or wrong values."""
    message = kind()
    # Sparse messages get further; full ones have more that can be wrong.
    filled = rng.choice((0.3, 0.6, 0.9))
    plain = depth == 0 and rng.random() < 0.3
    for field in kind.DESCRIPTOR.fields:
        if rng.random() > (0.95 if plain else filled) or (plain and field.message_type is not None):
            continue
        if field.is_repeated:
            _fill(message, field, rng, words, depth)
        elif field.message_type is not None:
            if depth < _DEEPEST:
                child = getattr(message, field.name)
                child.SetInParent()
                child.CopyFrom(random_message(type(child), rng, words, depth + 1))
        else:
            setattr(message, field.name, _value(field, rng, words))
    return message


def _fill(message: Message, field: Any, rng: random.Random, words: Words, depth: int) -> None:
    count = rng.choice((0, 1, 1, 2, 3, 10)) if rng.random() < 0.97 else rng.choice((200, 1500))
    container: Any = getattr(message, field.name)
    kind = field.message_type
    if kind is message.DESCRIPTOR:
        count = min(count, 1)  # a tree would grow without end
    if kind is not None and kind.GetOptions().map_entry:
        key, value = kind.fields_by_name["key"], kind.fields_by_name["value"]
        for _ in range(min(count, 10)):
            if value.message_type is None:
                container[_value(key, rng, words)] = _value(value, rng, words)
                continue
            child = container[_value(key, rng, words)]
            child.CopyFrom(random_message(type(child), rng, words, depth + 1))
    elif kind is not None:
        if depth < _DEEPEST:
            first = container.add()
            first.CopyFrom(random_message(type(first), rng, words, depth + 1))
            # Many of a kind alike: size matters here, and making each anew takes longer than answering.
            container.extend([first] * (count - 1) if count > 10 else ())
            for _ in range(min(count, 10) - 1):
                child = container.add()
                child.CopyFrom(random_message(type(child), rng, words, depth + 1))
    else:
        container.extend([_value(field, rng, words) for _ in range(count)])


def _value(field: Any, rng: random.Random, words: Words) -> Any:
    kind = field.type
    if kind == FieldDescriptor.TYPE_STRING:
        return words.string(rng, field.name)
    if kind == FieldDescriptor.TYPE_BOOL:
        return rng.random() < 0.5
    if kind in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
        return rng.random() if field.name.endswith("share") and rng.random() < 0.6 else words.double(rng)
    if kind == FieldDescriptor.TYPE_ENUM:
        # Unknown numbers are legal on the wire.
        return rng.choice([value.number for value in field.enum_type.values] + [77, -1])
    bits, signed = _INTEGER_BITS[kind]
    return words.integer(rng, field.name, bits, signed)
