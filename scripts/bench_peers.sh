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
# Each as pip is asked for it, and what must then be importable. Ray Tune needs packages that Ray alone does not bring; newer
# pyarrow wants a NumPy that Debian does not have.
for wanted in 'ray[tune] pyarrow<20=ray.tune' charm4py=charm4py distributed=distributed mpi4py=mpi4py; do
  module=${wanted##*=}
  read -ra requirements <<<"${wanted%=*}"
  peer=${requirements[0]%%[*}
  works() { build/peers/bin/python -c "import importlib; importlib.import_module('$module')" >>"$log" 2>&1; }
  : >"$log"
  if works || { build/peers/bin/pip install --quiet --no-input --disable-pip-version-check "${requirements[@]}" >"$log" 2>&1 &&
    works; }; then
    printf '%s %s\n' "$peer" "$(build/peers/bin/python -c "import importlib.metadata as m; print(m.version('$peer'))")"
  else
    missing+=("$peer")
    printf '%s could not be installed: %s\n' "$peer" "$(tail -n 1 "$log")"
  fi
done
((${#missing[@]} == 0)) || printf 'not installed: %s\n' "${missing[*]}"
