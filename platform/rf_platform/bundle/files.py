"""Names of the files in a bundle that are read by others than servers: what a later training goes on from, and what is listed."""

from pathlib import Path

SPEC = Path("spec.json")
ENCODER = Path("encoder")
MODEL = Path("model")
RERANKER = Path("reranker")
