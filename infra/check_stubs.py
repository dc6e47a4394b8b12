"""Check that the committed gRPC stubs are what the .proto files give; ``--write`` regenerates them."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1] / "protos"


def main() -> int:
    """Compare, or write; returns the exit code."""
    sources = [str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("rf_protos/**/*.proto"))]
    write = "--write" in sys.argv
    with tempfile.TemporaryDirectory() as temporary:
        out = ROOT if write else Path(temporary)
        options = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *options, *sources], cwd=ROOT, check=True)
        if write:
            return 0
        made = sorted(p.relative_to(out) for p in out.rglob("*.py*") if p.is_file())
        stale = [str(p) for p in made if not (ROOT / p).exists() or (ROOT / p).read_bytes() != (out / p).read_bytes()]
    if stale:
        sys.stderr.write(f"stale stubs: {', '.join(stale)}; run `make stubs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
