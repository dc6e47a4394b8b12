"""Names of the files in a bundle."""

from pathlib import Path

from rf_platform.bundle.files import ENCODER, MODEL, RERANKER, SPEC

__all__ = [
    "ENCODER",
    "INDEX",
    "ITEMS",
    "ITEM_STATES",
    "METRICS",
    "MODEL",
    "POPULARITY",
    "RERANKER",
    "SPEC",
    "TOKENS",
    "VECTORS",
]

ITEMS = Path("items.parquet")
TOKENS = Path("item_tokens.npy")
VECTORS = Path("vectors.npy")
POPULARITY = Path("popularity.npy")
INDEX = Path("index.faiss")
METRICS = Path("metrics.json")
ITEM_STATES = Path("item_sides.npy")
"""Item states of the re-ranker."""
