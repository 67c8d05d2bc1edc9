#!/usr/bin/env bash
# Usage: [FULL=1] [ONLY=regex] scripts/bench.sh [check|baseline]
# Builds and runs the benchmarks; figures go to build/bench/results.json. `check` compares them with benchmarks/baseline.json,
# `baseline` makes them the baseline. Both run the benchmarks first.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

configure bench
cmake --build --preset bench
# As a first run leaves it, also where PYTHONDONTWRITEBYTECODE forbids that: else every start compiles what has changed.
.venv/bin/python -m compileall -q python/trireme
python3 benchmarks/run.py --build build/bench --out build/bench/results.json --only "${ONLY:-}"
case ${1:-} in
  check) exec python3 benchmarks/check.py ;;
  baseline) exec python3 benchmarks/check.py --update ;;
esac
