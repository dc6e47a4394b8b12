"""The search index: one interface, exact and approximate implementations on FAISS."""

from rf_serving.index.choose import EXACT_LIMIT, INDEX_KINDS, choose_kind, open_index
from rf_serving.index.exact import ExactIndex
from rf_serving.index.hnsw import HnswIndex
from rf_serving.index.recall import recall_against_exact
from rf_serving.index.vector_index import Found, VectorIndex

__all__ = [
    "EXACT_LIMIT",
    "INDEX_KINDS",
    "ExactIndex",
    "Found",
    "HnswIndex",
    "VectorIndex",
    "choose_kind",
    "open_index",
    "recall_against_exact",
]
