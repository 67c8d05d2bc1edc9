#!/usr/bin/env bash
# Usage: scripts/demo.sh [digits|heat] [arguments of the example]
# Builds and runs the main example on two ranks:
#   digits  a hyper-parameter search over handwritten digits; the ranks are forced onto nodes of their own, each trial trains
#           on two workers, and one worker is killed on the way
#   heat    a 2-D heat solver in MPI; actors beside it analyse its fields and train a surrogate network on them
# --help shows the arguments.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
# Two ranks on any machine; each needs a core beside its program's for the runtime, so mpirun must not bind it to one.
two_ranks=(mpirun -n 2 --oversubscribe --bind-to none)

digits() {
  cmake --build --preset release --target trireme_python trireme_python_collective
  export TRIREME_BUILD_DIR=$PWD/build/release
  "${two_ranks[@]}" tests/support/rank_apart.sh python examples/digits/main.py "$@"
}

heat() {
  cmake --build --preset release --target heat
  "${two_ranks[@]}" build/release/examples/heat/heat --size 768 --steps 1000 --every 50 --check \
    --output "$PWD/build/release/heat.h5" --surrogate "$PWD/build/release/heat_surrogate.svg" "$@"
}

example=digits
case ${1:-} in digits | heat)
  example=$1
  shift
  ;;
esac
configure release
"$example" "$@"
