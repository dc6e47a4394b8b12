#!/usr/bin/env bash
# Resolve pyproject.toml anew and write the lock files. Run it with a fresh Python 3.11: `make lock`.
#
# torchrec declares the CUDA build of fbgemm, which breaks the CPU build it would be installed beside; it is therefore left out
# of the resolution, its remaining dependencies are named here, and every set is installed with --no-deps.
set -euo pipefail
cd "$(dirname "$0")/.."
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3.11}" -m venv "$work/venv"
pip="$work/venv/bin/pip --disable-pip-version-check"

requirements() { # requirements EXTRA|- : one requirement a line
  "$work/venv/bin/python" - "$1" <<'PY'
import sys, tomllib
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
names = project["dependencies"] if sys.argv[1] == "-" else project["optional-dependencies"][sys.argv[1]]
print("\n".join(n for n in names if not n.startswith(("torchrec", "recbole", "rectools"))))
PY
}
freeze() { # without the local version of the torch build and without what venv itself brings
  $pip freeze --exclude-editable | sed -e 's/+cpu$//' | grep -v '^retrievalformer' | sort -f
}

$pip install 'torch==2.13.*'
{ requirements -; requirements cpu; printf '%s\n' tensordict torchmetrics==1.0.3 pyre-extensions tqdm hatchling editables; } >"$work/runtime.txt"
$pip install -r "$work/runtime.txt"
$pip install --no-deps 'torchrec==1.8.*' 'recbole==1.2.1'
{
  echo "# Written by infra/lock.sh: the tested set for CPUs. Install with --no-deps after torch (see the Makefile)."
  freeze
} >infra/requirements-cpu.txt
requirements dev >"$work/dev.txt"
$pip install -r "$work/dev.txt" -c infra/requirements-cpu.txt
{
  echo "# Written by infra/lock.sh: what \`make test\` needs beside requirements-cpu.txt. Install with --no-deps."
  freeze | grep -vxFf infra/requirements-cpu.txt
} >infra/requirements-dev.txt
requirements bench >"$work/bench.txt"
$pip install -r "$work/bench.txt" -c infra/requirements-cpu.txt -c infra/requirements-dev.txt
$pip install --no-deps 'rectools==0.19.0'
{
  echo "# Written by infra/lock.sh: what \`make install-bench\` adds to requirements-cpu.txt and -dev.txt. Install with --no-deps."
  freeze | grep -vxFf infra/requirements-cpu.txt | grep -vxFf infra/requirements-dev.txt
} >infra/requirements-bench.txt
