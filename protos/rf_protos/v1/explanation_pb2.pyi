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
    __slots__ = ("event", "feature", "contribution", "link_attention")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    CONTRIBUTION_FIELD_NUMBER: _ClassVar[int]
    LINK_ATTENTION_FIELD_NUMBER: _ClassVar[int]
    event: HistoryEvent
    feature: FeatureCause
    contribution: float
    link_attention: float
    def __init__(self, event: _Optional[_Union[HistoryEvent, _Mapping]] = ..., feature: _Optional[_Union[FeatureCause, _Mapping]] = ..., contribution: _Optional[float] = ..., link_attention: _Optional[float] = ...) -> None: ...

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
