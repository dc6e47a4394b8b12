#!/usr/bin/env bash
# Check the GPU path on a machine with a CUDA device, in at most 8 minutes and without a network: a line PASS, FAIL or SKIP each.
#
# Usage: infra/gpu_check.sh [WHEELS] [--home WORKSPACE] [--items N] [LINE ...]
#
# WHEELS is a folder with wheels for that machine's Python, carried along; a large one may be in parts, NAME.whl.00, NAME.whl.01
# (split -d -b 60m NAME.whl NAME.whl.), which are put together here. torch stays the machine's own. What is not carried is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ $# -gt 0 ] && [ -d "$1" ]; then
  wheels=$(cd "$1" && pwd)
  shift
  joined=$(mktemp -d)
  trap 'rm -rf "$joined"' EXIT
  for first in "$wheels"/*.whl.00; do
    if [ -e "$first" ]; then cat "${first%.00}".[0-9][0-9] >"$joined/$(basename "${first%.00}")"; fi
  done
  found=("$wheels"/*.whl "$joined"/*.whl)
  carried=()
  for wheel in "${found[@]}"; do
    if [ -e "$wheel" ]; then carried+=("$wheel"); fi
  done
  if [ ${#carried[@]} -gt 0 ]; then
    timeout 120 "$python" -m pip install -q --no-index --no-deps --target "$joined/site" "${carried[@]}"
    export PYTHONPATH="$joined/site${PYTHONPATH:+:$PYTHONPATH}"
  fi
fi
export PYTHONPATH="platform:training:serving:protos:tests/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
status=0
timeout $((478 - SECONDS)) "$python" infra/gpu_check.py --seconds=$((470 - SECONDS)) "$@" || status=$?
exit $status
