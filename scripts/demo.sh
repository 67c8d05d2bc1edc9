#!/usr/bin/env bash
# Builds and runs the main example: a 2-D heat solver in MPI with statistics actors beside it, checked against a serial
# run. Arguments go to the example (--help shows them).
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

configure release
cmake --build --preset release --target heat
cd build/release
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Two ranks on any machine; each needs a core beside its solver's for the runtime, so mpirun must not bind it to one.
output=$PWD/heat.h5
mpirun -n 2 --oversubscribe --bind-to none examples/heat/heat \
  --size 768 --steps 1000 --every 100 --check --output "$output" "$@"
