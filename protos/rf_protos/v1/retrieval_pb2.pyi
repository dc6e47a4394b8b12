from rf_protos.v1 import explanation_pb2 as _explanation_pb2
from rf_protos.v1 import features_pb2 as _features_pb2
from rf_protos.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Rerank(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RERANK_UNSPECIFIED: _ClassVar[Rerank]
    RERANK_NONE: _ClassVar[Rerank]
    RERANK_EXACT: _ClassVar[Rerank]
    RERANK_LIME: _ClassVar[Rerank]

class DegradedReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DEGRADED_REASON_UNSPECIFIED: _ClassVar[DegradedReason]
    DEGRADED_STORE_SILENT: _ClassVar[DegradedReason]
    DEGRADED_STORE_BEHIND: _ClassVar[DegradedReason]
    DEGRADED_STORE_UNLOADED: _ClassVar[DegradedReason]
    DEGRADED_STORE_FOREIGN: _ClassVar[DegradedReason]
RERANK_UNSPECIFIED: Rerank
RERANK_NONE: Rerank
RERANK_EXACT: Rerank
RERANK_LIME: Rerank
DEGRADED_REASON_UNSPECIFIED: DegradedReason
DEGRADED_STORE_SILENT: DegradedReason
DEGRADED_STORE_BEHIND: DegradedReason
DEGRADED_STORE_UNLOADED: DegradedReason
DEGRADED_STORE_FOREIGN: DegradedReason

class RetrieveRequest(_message.Message):
    __slots__ = ("user_id", "session", "k", "exclude_seen", "return_history", "filter", "rerank", "explain")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    RETURN_HISTORY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session: Session
    k: int
    exclude_seen: bool
    return_history: bool
    filter: _filter_pb2.Filter
    rerank: Rerank
    explain: bool
    def __init__(self, user_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., k: _Optional[int] = ..., exclude_seen: _Optional[bool] = ..., return_history: _Optional[bool] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., rerank: _Optional[_Union[Rerank, str]] = ..., explain: _Optional[bool] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("history", "profile", "session_id")
    class ProfileEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _features_pb2.FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_features_pb2.FeatureValue, _Mapping]] = ...) -> None: ...
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    history: _containers.RepeatedCompositeFieldContainer[Interaction]
    profile: _containers.MessageMap[str, _features_pb2.FeatureValue]
    session_id: str
    def __init__(self, history: _Optional[_Iterable[_Union[Interaction, _Mapping]]] = ..., profile: _Optional[_Mapping[str, _features_pb2.FeatureValue]] = ..., session_id: _Optional[str] = ...) -> None: ...

class Interaction(_message.Message):
    __slots__ = ("item_id", "timestamp_us", "context")
    class ContextEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _features_pb2.FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_features_pb2.FeatureValue, _Mapping]] = ...) -> None: ...
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_US_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    timestamp_us: int
    context: _containers.MessageMap[str, _features_pb2.FeatureValue]
    def __init__(self, item_id: _Optional[str] = ..., timestamp_us: _Optional[int] = ..., context: _Optional[_Mapping[str, _features_pb2.FeatureValue]] = ...) -> None: ...

class RetrieveResponse(_message.Message):
    __slots__ = ("items", "bundle", "spec_hash", "cold", "timings", "history", "degraded", "plan", "catalog_sequence", "rerank", "degraded_reason")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    COLD_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CATALOG_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_REASON_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ScoredItem]
    bundle: str
    spec_hash: str
    cold: bool
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    history: _containers.RepeatedScalarFieldContainer[str]
    degraded: bool
    plan: SearchPlan
    catalog_sequence: int
    rerank: Rerank
    degraded_reason: DegradedReason
    def __init__(self, items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., bundle: _Optional[str] = ..., spec_hash: _Optional[str] = ..., cold: _Optional[bool] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., history: _Optional[_Iterable[str]] = ..., degraded: _Optional[bool] = ..., plan: _Optional[_Union[SearchPlan, _Mapping]] = ..., catalog_sequence: _Optional[int] = ..., rerank: _Optional[_Union[Rerank, str]] = ..., degraded_reason: _Optional[_Union[DegradedReason, str]] = ...) -> None: ...

class SearchPlan(_message.Message):
    __slots__ = ("strategy", "eligible")
    class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STRATEGY_UNSPECIFIED: _ClassVar[SearchPlan.Strategy]
        EXACT: _ClassVar[SearchPlan.Strategy]
        APPROXIMATE: _ClassVar[SearchPlan.Strategy]
        POPULAR: _ClassVar[SearchPlan.Strategy]
    STRATEGY_UNSPECIFIED: SearchPlan.Strategy
    EXACT: SearchPlan.Strategy
    APPROXIMATE: SearchPlan.Strategy
    POPULAR: SearchPlan.Strategy
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    strategy: SearchPlan.Strategy
    eligible: int
    def __init__(self, strategy: _Optional[_Union[SearchPlan.Strategy, str]] = ..., eligible: _Optional[int] = ...) -> None: ...

class ScoredItem(_message.Message):
    __slots__ = ("item_id", "score", "explanation")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    explanation: _explanation_pb2.Explanation
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., explanation: _Optional[_Union[_explanation_pb2.Explanation, _Mapping]] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "milliseconds")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    milliseconds: float
    def __init__(self, stage: _Optional[str] = ..., milliseconds: _Optional[float] = ...) -> None: ...
