"""Check that the committed gRPC stubs and the OpenAPI document are what the .proto files give; ``--write`` regenerates them.

A change of the contracts that clients would break at is refused; ``--write --break`` takes it, where no client can have what
changes. After a conflict in ``protos/contracts.json``, take either side and write.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from breaking import broken, record
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from openapi import document

ROOT = Path(__file__).resolve().parents[1] / "protos"


PACKAGE, RECORD = "retrievalformer.v1", "contracts.json"


def main() -> int:
    """Compare, or write; returns the exit code."""
    sources = [str(p.relative_to(ROOT)) for p in sorted(ROOT.glob("rf_protos/**/*.proto"))]
    write = "--write" in sys.argv
    with tempfile.TemporaryDirectory() as temporary:
        out = ROOT if write else Path(temporary)
        options = [f"--{kind}_out={out}" for kind in ("python", "pyi", "grpc_python")]
        described = Path(temporary) / "contracts.pb"
        options += ["--include_source_info", "--include_imports", f"--descriptor_set_out={described}"]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", "-I.", *options, *sources], cwd=ROOT, check=True)
        files = FileDescriptorSet.FromString(described.read_bytes())
        recorded = record(files, PACKAGE)
        if "--break" not in sys.argv and (faults := broken((ROOT / RECORD).read_text(), recorded)):
            said = "\n  ".join(["clients would break; add a field or a method instead (or --write --break):", *faults])
            sys.stderr.write(f"{said}\n")
            return 1
        (out / RECORD).write_text(recorded)
        (out / "rf_protos").mkdir(exist_ok=True)
        (out / "rf_protos" / "openapi.json").write_text(document(files, PACKAGE))
        if write:
            return 0
        made = sorted(p.relative_to(out) for kind in ("*.py*", "*.json") for p in out.rglob(kind) if p.is_file())
        stale = [str(p) for p in made if not (ROOT / p).exists() or (ROOT / p).read_bytes() != (out / p).read_bytes()]
    if stale:
        sys.stderr.write(f"stale stubs: {', '.join(stale)}; run `make stubs`\n")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
