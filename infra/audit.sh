#!/usr/bin/env bash
# Ask for known vulnerabilities of the locked packages: `make audit`. Advice only: without a network it says that it could not ask.
#
# Usage: infra/audit.sh PIP_AUDIT [LOCK...]
set -uo pipefail
cd "$(dirname "$0")/.."
audit=$1
shift
locks=("${@:-infra/requirements-cpu.txt}")
code=0
for lock in "${locks[@]}"; do
  said=$("$audit" --disable-pip --no-deps --progress-spinner off --timeout 10 -r "$lock" 2>&1)
  status=$?
  printf '%s:\n%s\n' "$lock" "$said"
  if [ $status -ne 0 ] && ! grep -q '^Found [0-9]* known' <<<"$said"; then
    echo "$lock: the database of vulnerabilities did not answer; nothing is known" >&2
  elif unknown=$(grep -c 'could not be audited' <<<"$said") && [ "$unknown" -gt 0 ]; then
    echo "$lock: the database of vulnerabilities does not know $unknown packages; a mirror may have none" >&2
  fi
  if grep -q '^Found [0-9]* known' <<<"$said"; then code=1; fi
done
exit $code
