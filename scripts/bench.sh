#!/usr/bin/env bash
# Builds and runs the benchmarks; figures go to build/bench/results.json.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

configure bench
cmake --build --preset bench
exec python3 benchmarks/run.py --build build/bench --out build/bench/results.json
