"""All checks, in the order they are shown: what is installed, the workspace, the stores, the served bundle."""

from rf_platform.doctor.check import Check
from rf_platform.doctor.packages import (
    check_faiss_import,
    check_faiss_twins,
    check_fbgemm_twins,
    check_gpu,
    check_lock,
    check_python,
    check_torch_import,
    check_torch_pairing,
)
from rf_platform.doctor.stores import (
    check_feature_registry,
    check_object_store,
    check_online_store,
    check_registry,
    check_seen_sets,
    check_served_bundle,
    check_served_features,
    check_store_content,
    check_store_position,
)
from rf_platform.doctor.workspace import check_disk, check_leftovers, check_meanings, check_tables, check_workspace

CHECKS = (
    Check("python", check_python),
    Check("torch, torchrec and fbgemm", check_torch_pairing),
    Check("one build of fbgemm", check_fbgemm_twins),
    Check("one build of faiss", check_faiss_twins),
    Check("torch loads", check_torch_import),
    Check("faiss loads", check_faiss_import),
    Check("locked packages", check_lock),
    Check("gpu", check_gpu),
    Check("workspace", check_workspace),
    Check("disk", check_disk),
    Check("leftovers", check_leftovers),
    Check("tables", check_tables),
    Check("registry", check_registry),
    Check("feature registry", check_feature_registry),
    Check("online store", check_online_store),
    Check("meanings of events", check_meanings),
    Check("seen sets", check_seen_sets),
    Check("store and event log", check_store_position),
    Check("store and tables", check_store_content),
    Check("object store", check_object_store),
    Check("served bundle", check_served_bundle),
    Check("served features", check_served_features),
)
