#!/usr/bin/env bash
# Installs the peers that come from the Python index into build/peers, an environment of its own over Debian's Python. Says what
# could not be installed; the benchmarks' rows say so too. The others (oneTBB, CAF, StarPU) come with scripts/setup.sh bench.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

python=/usr/bin/python3
[[ -x $python ]] || python=$(command -v python3)
[[ -x build/peers/bin/python ]] || "$python" -m venv --system-site-packages build/peers
log=build/peers/install.log
missing=()
for peer in ray charm4py distributed mpi4py; do
  if build/peers/bin/python -c "import importlib.metadata as m; m.version('$peer')" 2>/dev/null ||
    build/peers/bin/pip install --quiet --no-input --disable-pip-version-check "$peer" >"$log" 2>&1; then
    printf '%s %s\n' "$peer" "$(build/peers/bin/python -c "import importlib.metadata as m; print(m.version('$peer'))")"
  else
    missing+=("$peer")
    printf '%s could not be installed: %s\n' "$peer" "$(tail -n 1 "$log")"
  fi
done
((${#missing[@]} == 0)) || printf 'not installed: %s\n' "${missing[*]}"
