"""The platform's registry: datasets, runs, bundles and deployments, on SQLite or PostgreSQL.

:class:`Registry` opens it, :mod:`rf_platform.registry.deploy` changes what is served.
"""

from rf_platform.registry.deploy import check_bundle, check_spec, features_now, promote, roll_back, shadow, split
from rf_platform.registry.records import (
    Action,
    BundleRecord,
    DatasetRecord,
    DeploymentRecord,
    ExperimentRecord,
    PolicyRecord,
    RunRecord,
    RunStatus,
    ServingPlan,
    TrafficRecord,
)
from rf_platform.registry.registry import Registry
from rf_platform.registry.remote_files import fetch, fetched, published

__all__ = [
    "Action",
    "BundleRecord",
    "DatasetRecord",
    "DeploymentRecord",
    "ExperimentRecord",
    "PolicyRecord",
    "Registry",
    "RunRecord",
    "RunStatus",
    "ServingPlan",
    "TrafficRecord",
    "check_bundle",
    "check_spec",
    "features_now",
    "fetch",
    "fetched",
    "promote",
    "published",
    "roll_back",
    "shadow",
    "split",
]
