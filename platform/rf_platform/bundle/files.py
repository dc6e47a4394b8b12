"""Names of the files in a bundle that a later training goes on from."""

from pathlib import Path

SPEC = Path("spec.json")
ENCODER = Path("encoder")
MODEL = Path("model")
