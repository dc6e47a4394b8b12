from rf_protos.v1 import features_pb2 as _features_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Filter(_message.Message):
    __slots__ = ("allow_items", "deny_items", "where")
    ALLOW_ITEMS_FIELD_NUMBER: _ClassVar[int]
    DENY_ITEMS_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    allow_items: _containers.RepeatedScalarFieldContainer[str]
    deny_items: _containers.RepeatedScalarFieldContainer[str]
    where: _containers.RepeatedCompositeFieldContainer[Predicate]
    def __init__(self, allow_items: _Optional[_Iterable[str]] = ..., deny_items: _Optional[_Iterable[str]] = ..., where: _Optional[_Iterable[_Union[Predicate, _Mapping]]] = ...) -> None: ...

class Predicate(_message.Message):
    __slots__ = ("feature", "operator", "value", "any", "all", "negate")
    class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OPERATOR_UNSPECIFIED: _ClassVar[Predicate.Operator]
        ANY_OF: _ClassVar[Predicate.Operator]
        NONE_OF: _ClassVar[Predicate.Operator]
        ALL_OF: _ClassVar[Predicate.Operator]
        LESS: _ClassVar[Predicate.Operator]
        AT_MOST: _ClassVar[Predicate.Operator]
        GREATER: _ClassVar[Predicate.Operator]
        AT_LEAST: _ClassVar[Predicate.Operator]
        PRESENT: _ClassVar[Predicate.Operator]
        ABSENT: _ClassVar[Predicate.Operator]
    OPERATOR_UNSPECIFIED: Predicate.Operator
    ANY_OF: Predicate.Operator
    NONE_OF: Predicate.Operator
    ALL_OF: Predicate.Operator
    LESS: Predicate.Operator
    AT_MOST: Predicate.Operator
    GREATER: Predicate.Operator
    AT_LEAST: Predicate.Operator
    PRESENT: Predicate.Operator
    ABSENT: Predicate.Operator
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    NEGATE_FIELD_NUMBER: _ClassVar[int]
    feature: str
    operator: Predicate.Operator
    value: _features_pb2.FeatureValue
    any: _containers.RepeatedCompositeFieldContainer[Predicate]
    all: _containers.RepeatedCompositeFieldContainer[Predicate]
    negate: bool
    def __init__(self, feature: _Optional[str] = ..., operator: _Optional[_Union[Predicate.Operator, str]] = ..., value: _Optional[_Union[_features_pb2.FeatureValue, _Mapping]] = ..., any: _Optional[_Iterable[_Union[Predicate, _Mapping]]] = ..., all: _Optional[_Iterable[_Union[Predicate, _Mapping]]] = ..., negate: _Optional[bool] = ...) -> None: ...
