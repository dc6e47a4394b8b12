from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Explanation(_message.Message):
    __slots__ = ("reasons",)
    REASONS_FIELD_NUMBER: _ClassVar[int]
    reasons: _containers.RepeatedCompositeFieldContainer[Reason]
    def __init__(self, reasons: _Optional[_Iterable[_Union[Reason, _Mapping]]] = ...) -> None: ...

class Reason(_message.Message):
    __slots__ = ("event", "feature", "rule", "contribution", "link_attention")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    RULE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    LINK_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    event: HistoryEvent
    feature: FeatureCause
    rule: RuleCause
    contribution: float
    link_attention: float
    def __init__(self, event: _Optional[_Union[HistoryEvent, _Mapping]] = ..., feature: _Optional[_Union[FeatureCause, _Mapping]] = ..., rule: _Optional[_Union[RuleCause, _Mapping]] = ..., contribution: _Optional[float] = ..., link_attention: _Optional[float] = ...) -> None: ...

class HistoryEvent(_message.Message):
    __slots__ = ("item_id", "position")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    position: int
    def __init__(self, item_id: _Optional[str] = ..., position: _Optional[int] = ...) -> None: ...

class FeatureCause(_message.Message):
    __slots__ = ("side", "name")
    class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SIDE_UNSPECIFIED: _ClassVar[FeatureCause.Side]
        USER: _ClassVar[FeatureCause.Side]
        ITEM: _ClassVar[FeatureCause.Side]
    SIDE_UNSPECIFIED: FeatureCause.Side
    USER: FeatureCause.Side
    ITEM: FeatureCause.Side
    SIDE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    side: FeatureCause.Side
    name: str
    def __init__(self, side: _Optional[_Union[FeatureCause.Side, str]] = ..., name: _Optional[str] = ...) -> None: ...

class RuleCause(_message.Message):
    __slots__ = ("kind", "name", "place")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[RuleCause.Kind]
        BOOST: _ClassVar[RuleCause.Kind]
        REORDERED: _ClassVar[RuleCause.Kind]
        PIN: _ClassVar[RuleCause.Kind]
        EXPLORATION: _ClassVar[RuleCause.Kind]
        LIST: _ClassVar[RuleCause.Kind]
        SIMILAR: _ClassVar[RuleCause.Kind]
        CO_OCCURRENCE: _ClassVar[RuleCause.Kind]
        CALLER: _ClassVar[RuleCause.Kind]
    KIND_UNSPECIFIED: RuleCause.Kind
    BOOST: RuleCause.Kind
    REORDERED: RuleCause.Kind
    PIN: RuleCause.Kind
    EXPLORATION: RuleCause.Kind
    LIST: RuleCause.Kind
    SIMILAR: RuleCause.Kind
    CO_OCCURRENCE: RuleCause.Kind
    CALLER: RuleCause.Kind
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    kind: RuleCause.Kind
    name: str
    place: int
    def __init__(self, kind: _Optional[_Union[RuleCause.Kind, str]] = ..., name: _Optional[str] = ..., place: _Optional[int] = ...) -> None: ...
