"""Names of the files in a bundle."""

from pathlib import Path

SPEC = Path("spec.json")
ENCODER = Path("encoder")
MODEL = Path("model")
RERANKER = Path("reranker")
ITEMS = Path("items.parquet")
TOKENS = Path("item_tokens.npy")
VECTORS = Path("vectors.npy")
POPULARITY = Path("popularity.npy")
FOLD_IN = Path("fold_in.npz")
"""The rule by which the first users of an item move its vector."""
INDEX = Path("index.faiss")
METRICS = Path("metrics.json")
ITEM_STATES = Path("item_sides.npy")
"""Item states of the re-ranker."""
