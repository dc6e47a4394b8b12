from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetDeploymentRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetDeploymentResponse(_message.Message):
    __slots__ = ("active", "challenger", "split_percent", "shadow", "shadow_report", "refused", "swaps", "policy_version")
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    CHALLENGER_FIELD_NUMBER: _ClassVar[int]
    SPLIT_PERCENT_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    SHADOW_REPORT_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    SWAPS_FIELD_NUMBER: _ClassVar[int]
    POLICY_VERSION_FIELD_NUMBER: _ClassVar[int]
    active: ServedBundle
    challenger: ServedBundle
    split_percent: float
    shadow: ServedBundle
    shadow_report: ShadowReport
    refused: str
    swaps: int
    policy_version: int
    def __init__(self, active: _Optional[_Union[ServedBundle, _Mapping]] = ..., challenger: _Optional[_Union[ServedBundle, _Mapping]] = ..., split_percent: _Optional[float] = ..., shadow: _Optional[_Union[ServedBundle, _Mapping]] = ..., shadow_report: _Optional[_Union[ShadowReport, _Mapping]] = ..., refused: _Optional[str] = ..., swaps: _Optional[int] = ..., policy_version: _Optional[int] = ...) -> None: ...

class ServedBundle(_message.Message):
    __slots__ = ("name", "spec_hash", "items", "catalog_sequence")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    CATALOG_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    name: str
    spec_hash: str
    items: int
    catalog_sequence: int
    def __init__(self, name: _Optional[str] = ..., spec_hash: _Optional[str] = ..., items: _Optional[int] = ..., catalog_sequence: _Optional[int] = ...) -> None: ...

class ShadowReport(_message.Message):
    __slots__ = ("requests", "failed", "overlap", "active_ms", "shadow_ms")
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    OVERLAP_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_MS_FIELD_NUMBER: _ClassVar[int]
    SHADOW_MS_FIELD_NUMBER: _ClassVar[int]
    requests: int
    failed: int
    overlap: float
    active_ms: float
    shadow_ms: float
    def __init__(self, requests: _Optional[int] = ..., failed: _Optional[int] = ..., overlap: _Optional[float] = ..., active_ms: _Optional[float] = ..., shadow_ms: _Optional[float] = ...) -> None: ...
