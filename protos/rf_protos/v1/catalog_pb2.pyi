from rf_protos.v1 import features_pb2 as _features_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Item(_message.Message):
    __slots__ = ("item_id", "features", "update_mask")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _features_pb2.FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_features_pb2.FeatureValue, _Mapping]] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    UPDATE_MASK_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    features: _containers.MessageMap[str, _features_pb2.FeatureValue]
    update_mask: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_id: _Optional[str] = ..., features: _Optional[_Mapping[str, _features_pb2.FeatureValue]] = ..., update_mask: _Optional[_Iterable[str]] = ...) -> None: ...

class UpsertItemsRequest(_message.Message):
    __slots__ = ("items", "neighbours", "validate_only")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    VALIDATE_ONLY_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[Item]
    neighbours: int
    validate_only: bool
    def __init__(self, items: _Optional[_Iterable[_Union[Item, _Mapping]]] = ..., neighbours: _Optional[int] = ..., validate_only: _Optional[bool] = ...) -> None: ...

class UpsertItemsResponse(_message.Message):
    __slots__ = ("statuses", "bundle")
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    statuses: _containers.RepeatedCompositeFieldContainer[UpsertStatus]
    bundle: str
    def __init__(self, statuses: _Optional[_Iterable[_Union[UpsertStatus, _Mapping]]] = ..., bundle: _Optional[str] = ...) -> None: ...

class UpsertStatus(_message.Message):
    __slots__ = ("item_id", "outcome", "message", "sequence", "neighbours", "searchable")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[UpsertStatus.Outcome]
        ADDED: _ClassVar[UpsertStatus.Outcome]
        CHANGED: _ClassVar[UpsertStatus.Outcome]
        UNCHANGED: _ClassVar[UpsertStatus.Outcome]
        REJECTED: _ClassVar[UpsertStatus.Outcome]
    OUTCOME_UNSPECIFIED: UpsertStatus.Outcome
    ADDED: UpsertStatus.Outcome
    CHANGED: UpsertStatus.Outcome
    UNCHANGED: UpsertStatus.Outcome
    REJECTED: UpsertStatus.Outcome
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    NEIGHBOURS_FIELD_NUMBER: _ClassVar[int]
    SEARCHABLE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    outcome: UpsertStatus.Outcome
    message: str
    sequence: int
    neighbours: _containers.RepeatedCompositeFieldContainer[Neighbour]
    searchable: bool
    def __init__(self, item_id: _Optional[str] = ..., outcome: _Optional[_Union[UpsertStatus.Outcome, str]] = ..., message: _Optional[str] = ..., sequence: _Optional[int] = ..., neighbours: _Optional[_Iterable[_Union[Neighbour, _Mapping]]] = ..., searchable: _Optional[bool] = ...) -> None: ...

class Neighbour(_message.Message):
    __slots__ = ("item_id", "similarity")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    similarity: float
    def __init__(self, item_id: _Optional[str] = ..., similarity: _Optional[float] = ...) -> None: ...

class DeleteItemsRequest(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class DeleteItemsResponse(_message.Message):
    __slots__ = ("statuses",)
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    statuses: _containers.RepeatedCompositeFieldContainer[DeleteStatus]
    def __init__(self, statuses: _Optional[_Iterable[_Union[DeleteStatus, _Mapping]]] = ...) -> None: ...

class DeleteStatus(_message.Message):
    __slots__ = ("item_id", "outcome", "message", "sequence")
    class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OUTCOME_UNSPECIFIED: _ClassVar[DeleteStatus.Outcome]
        DELETED: _ClassVar[DeleteStatus.Outcome]
        ABSENT: _ClassVar[DeleteStatus.Outcome]
        REJECTED: _ClassVar[DeleteStatus.Outcome]
    OUTCOME_UNSPECIFIED: DeleteStatus.Outcome
    DELETED: DeleteStatus.Outcome
    ABSENT: DeleteStatus.Outcome
    REJECTED: DeleteStatus.Outcome
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    outcome: DeleteStatus.Outcome
    message: str
    sequence: int
    def __init__(self, item_id: _Optional[str] = ..., outcome: _Optional[_Union[DeleteStatus.Outcome, str]] = ..., message: _Optional[str] = ..., sequence: _Optional[int] = ...) -> None: ...

class GetItemsRequest(_message.Message):
    __slots__ = ("item_ids",)
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetItemsResponse(_message.Message):
    __slots__ = ("items", "absent", "display_fields")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    DISPLAY_FIELDS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CatalogItem]
    absent: _containers.RepeatedScalarFieldContainer[str]
    display_fields: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[CatalogItem, _Mapping]]] = ..., absent: _Optional[_Iterable[str]] = ..., display_fields: _Optional[_Iterable[str]] = ...) -> None: ...

class ListItemsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "recommendable")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    RECOMMENDABLE_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    recommendable: bool
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., recommendable: _Optional[bool] = ...) -> None: ...

class ListItemsResponse(_message.Message):
    __slots__ = ("item_ids", "next_page_token", "catalog_sequence")
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CATALOG_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    next_page_token: str
    catalog_sequence: int
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., next_page_token: _Optional[str] = ..., catalog_sequence: _Optional[int] = ...) -> None: ...

class CatalogItem(_message.Message):
    __slots__ = ("item", "sequence", "cold")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    item: Item
    sequence: int
    cold: bool
    def __init__(self, item: _Optional[_Union[Item, _Mapping]] = ..., sequence: _Optional[int] = ..., cold: _Optional[bool] = ...) -> None: ...
