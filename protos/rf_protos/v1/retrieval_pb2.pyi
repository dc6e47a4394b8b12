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
    DEGRADED_INDEX_SILENT: _ClassVar[DegradedReason]
RERANK_UNSPECIFIED: Rerank
RERANK_NONE: Rerank
RERANK_EXACT: Rerank
RERANK_LIME: Rerank
DEGRADED_REASON_UNSPECIFIED: DegradedReason
DEGRADED_STORE_SILENT: DegradedReason
DEGRADED_STORE_BEHIND: DegradedReason
DEGRADED_STORE_UNLOADED: DegradedReason
DEGRADED_STORE_FOREIGN: DegradedReason
DEGRADED_INDEX_SILENT: DegradedReason

class RetrieveRequest(_message.Message):
    __slots__ = ("user_id", "session", "k", "exclude_seen", "return_history", "filter", "rerank", "explain", "placement", "seen", "candidate_items", "category", "goals", "interleave")
    class GoalsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    EXCLUDE_SEEN_FIELD_NUMBER: _ClassVar[int]
    RETURN_HISTORY_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    RERANK_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    SEEN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_ITEMS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    GOALS_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVE_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    session: Session
    k: int
    exclude_seen: bool
    return_history: bool
    filter: _filter_pb2.Filter
    rerank: Rerank
    explain: bool
    placement: str
    seen: _containers.RepeatedCompositeFieldContainer[SeenRule]
    candidate_items: _containers.RepeatedScalarFieldContainer[str]
    category: str
    goals: _containers.ScalarMap[str, float]
    interleave: bool
    def __init__(self, user_id: _Optional[str] = ..., session: _Optional[_Union[Session, _Mapping]] = ..., k: _Optional[int] = ..., exclude_seen: _Optional[bool] = ..., return_history: _Optional[bool] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., rerank: _Optional[_Union[Rerank, str]] = ..., explain: _Optional[bool] = ..., placement: _Optional[str] = ..., seen: _Optional[_Iterable[_Union[SeenRule, _Mapping]]] = ..., candidate_items: _Optional[_Iterable[str]] = ..., category: _Optional[str] = ..., goals: _Optional[_Mapping[str, float]] = ..., interleave: _Optional[bool] = ...) -> None: ...

class SeenRule(_message.Message):
    __slots__ = ("event_types", "days")
    EVENT_TYPES_FIELD_NUMBER: _ClassVar[int]
    DAYS_FIELD_NUMBER: _ClassVar[int]
    event_types: _containers.RepeatedScalarFieldContainer[str]
    days: float
    def __init__(self, event_types: _Optional[_Iterable[str]] = ..., days: _Optional[float] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("history", "profile", "session_id", "strict")
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
    STRICT_FIELD_NUMBER: _ClassVar[int]
    history: _containers.RepeatedCompositeFieldContainer[Interaction]
    profile: _containers.MessageMap[str, _features_pb2.FeatureValue]
    session_id: str
    strict: bool
    def __init__(self, history: _Optional[_Iterable[_Union[Interaction, _Mapping]]] = ..., profile: _Optional[_Mapping[str, _features_pb2.FeatureValue]] = ..., session_id: _Optional[str] = ..., strict: _Optional[bool] = ...) -> None: ...

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
    __slots__ = ("items", "bundle", "spec_hash", "cold", "timings", "history", "degraded", "plan", "catalog_sequence", "rerank", "degraded_reason", "placement", "policy_version", "yielded_caps", "unknown_items")
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
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    YIELDED_CAPS_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_ITEMS_FIELD_NUMBER: _ClassVar[int]
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
    placement: str
    policy_version: int
    yielded_caps: _containers.RepeatedScalarFieldContainer[str]
    unknown_items: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[ScoredItem, _Mapping]]] = ..., bundle: _Optional[str] = ..., spec_hash: _Optional[str] = ..., cold: _Optional[bool] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., history: _Optional[_Iterable[str]] = ..., degraded: _Optional[bool] = ..., plan: _Optional[_Union[SearchPlan, _Mapping]] = ..., catalog_sequence: _Optional[int] = ..., rerank: _Optional[_Union[Rerank, str]] = ..., degraded_reason: _Optional[_Union[DegradedReason, str]] = ..., placement: _Optional[str] = ..., policy_version: _Optional[int] = ..., yielded_caps: _Optional[_Iterable[str]] = ..., unknown_items: _Optional[_Iterable[str]] = ...) -> None: ...

class SearchPlan(_message.Message):
    __slots__ = ("strategy", "eligible")
    class Strategy(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STRATEGY_UNSPECIFIED: _ClassVar[SearchPlan.Strategy]
        EXACT: _ClassVar[SearchPlan.Strategy]
        APPROXIMATE: _ClassVar[SearchPlan.Strategy]
        POPULAR: _ClassVar[SearchPlan.Strategy]
        LISTED: _ClassVar[SearchPlan.Strategy]
    STRATEGY_UNSPECIFIED: SearchPlan.Strategy
    EXACT: SearchPlan.Strategy
    APPROXIMATE: SearchPlan.Strategy
    POPULAR: SearchPlan.Strategy
    LISTED: SearchPlan.Strategy
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    ELIGIBLE_FIELD_NUMBER: _ClassVar[int]
    strategy: SearchPlan.Strategy
    eligible: int
    def __init__(self, strategy: _Optional[_Union[SearchPlan.Strategy, str]] = ..., eligible: _Optional[int] = ...) -> None: ...

class ScoredItem(_message.Message):
    __slots__ = ("item_id", "score", "explanation", "source", "propensity", "bundle")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    explanation: _explanation_pb2.Explanation
    source: str
    propensity: float
    bundle: str
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., explanation: _Optional[_Union[_explanation_pb2.Explanation, _Mapping]] = ..., source: _Optional[str] = ..., propensity: _Optional[float] = ..., bundle: _Optional[str] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "milliseconds")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    MILLISECONDS_FIELD_NUMBER: _ClassVar[int]
    stage: str
    milliseconds: float
    def __init__(self, stage: _Optional[str] = ..., milliseconds: _Optional[float] = ...) -> None: ...

class SimilarItemsRequest(_message.Message):
    __slots__ = ("item_ids", "features", "k", "filter", "co_occurrence_share", "placement")
    class FeaturesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _features_pb2.FeatureValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_features_pb2.FeatureValue, _Mapping]] = ...) -> None: ...
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    CO_OCCURRENCE_SHARE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    features: _containers.MessageMap[str, _features_pb2.FeatureValue]
    k: int
    filter: _filter_pb2.Filter
    co_occurrence_share: float
    placement: str
    def __init__(self, item_ids: _Optional[_Iterable[str]] = ..., features: _Optional[_Mapping[str, _features_pb2.FeatureValue]] = ..., k: _Optional[int] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., co_occurrence_share: _Optional[float] = ..., placement: _Optional[str] = ...) -> None: ...

class SimilarItemsResponse(_message.Message):
    __slots__ = ("items", "bundle", "spec_hash", "absent", "timings", "plan", "catalog_sequence", "co_occurrence_share", "placement", "policy_version", "yielded_caps")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    ABSENT_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    CATALOG_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CO_OCCURRENCE_SHARE_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    YIELDED_CAPS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[SimilarItem]
    bundle: str
    spec_hash: str
    absent: _containers.RepeatedScalarFieldContainer[str]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    plan: SearchPlan
    catalog_sequence: int
    co_occurrence_share: float
    placement: str
    policy_version: int
    yielded_caps: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, items: _Optional[_Iterable[_Union[SimilarItem, _Mapping]]] = ..., bundle: _Optional[str] = ..., spec_hash: _Optional[str] = ..., absent: _Optional[_Iterable[str]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., plan: _Optional[_Union[SearchPlan, _Mapping]] = ..., catalog_sequence: _Optional[int] = ..., co_occurrence_share: _Optional[float] = ..., placement: _Optional[str] = ..., policy_version: _Optional[int] = ..., yielded_caps: _Optional[_Iterable[str]] = ...) -> None: ...

class SimilarItem(_message.Message):
    __slots__ = ("item_id", "score", "cosine", "co_occurrence", "source", "propensity")
    ITEM_ID_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    COSINE_FIELD_NUMBER: _ClassVar[int]
    CO_OCCURRENCE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    item_id: str
    score: float
    cosine: float
    co_occurrence: float
    source: str
    propensity: float
    def __init__(self, item_id: _Optional[str] = ..., score: _Optional[float] = ..., cosine: _Optional[float] = ..., co_occurrence: _Optional[float] = ..., source: _Optional[str] = ..., propensity: _Optional[float] = ...) -> None: ...
