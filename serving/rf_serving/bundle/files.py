"""Names of the files in a bundle."""

from pathlib import Path

SPEC = Path("spec.json")
ENCODER = Path("encoder")
MODEL = Path("model")
ITEMS = Path("items.parquet")
TOKENS = Path("item_tokens.npy")
VECTORS = Path("vectors.npy")
INDEX = Path("index.faiss")
METRICS = Path("metrics.json")
