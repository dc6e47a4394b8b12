"""The search index: one interface, exact and approximate implementations on FAISS, and one in a Milvus cluster."""

from rf_serving.index.approximate import ApproximateIndex, Effort, Efforts
from rf_serving.index.choose import EXACT_LIMIT, INDEX_KINDS, LOCAL_KINDS, build_index, choose_kind, open_index
from rf_serving.index.device import find_device
from rf_serving.index.exact import ExactIndex, exact_search
from rf_serving.index.hnsw import HnswIndex
from rf_serving.index.ivf_pq import IvfPqIndex
from rf_serving.index.milvus import MilvusIndex
from rf_serving.index.tune import recall_against_exact, tune
from rf_serving.index.vector_index import NO_ROW, Found, VectorIndex

__all__ = [
    "EXACT_LIMIT",
    "INDEX_KINDS",
    "LOCAL_KINDS",
    "NO_ROW",
    "ApproximateIndex",
    "Effort",
    "Efforts",
    "ExactIndex",
    "Found",
    "HnswIndex",
    "IvfPqIndex",
    "MilvusIndex",
    "VectorIndex",
    "build_index",
    "choose_kind",
    "exact_search",
    "find_device",
    "open_index",
    "recall_against_exact",
    "tune",
]
