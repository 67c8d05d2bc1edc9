#!/usr/bin/env bash
# Usage: scripts/test.sh [part ...]     parts: dev asan tsan slurm; all of them by default
# Builds and runs the tests. Every part runs even when an earlier one failed; the exit status is 0 only when all passed.
# With CI=true a skipped test is a failure, unless what it misses is a GPU.
set -uo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

parts=("$@")
((${#parts[@]})) || parts=(dev asan tsan slurm)
jobs=$(nproc)
out=build/test
mkdir -p "$out"
rm -f "$out"/*.xml "$out"/*.log "$out"/times

# run_part <part> <preset> <targets or all> <ctest selection ...>
run_part() {
  local part=$1 preset=$2 targets=$3
  shift 3
  local start=$SECONDS
  configure "$preset" || return 1
  # shellcheck disable=SC2086  # several targets
  cmake --build --preset "$preset" --target $targets || return 1
  echo "$part-build $((SECONDS - start))" >>"$out/times"
  start=$SECONDS
  ctest --test-dir "build/$preset" -j "$jobs" --output-on-failure --no-tests=error \
    --output-junit "$PWD/$out/$part.xml" --test-output-size-passed 65536 "$@" 2>&1 | tee "$out/$part.log"
  local status=${PIPESTATUS[0]}
  echo "$part-tests $((SECONDS - start))" >>"$out/times"
  return "$status"
}

# What runs again under sanitizers: targets to build, whose tests of one process or of two ranks (in both ways) run, and
# further tests of theirs. sim_programs_N are runs of trireme_sim_tests.
asan_targets=(base core_actor_end core_actors core_async core_codec core_runtime core_tasks core_unplaceable core_values core_waiting
  scheduler_deque scheduler_fiber scheduler_executor scheduler_progress scheduler_steal
  transport_conformance_sim transport_conformance_shm transport_conformance_ucx ucx_death_test fuzz_router objstore_store
  trireme_sim_tests fuzz_core sim_worlds ml_fold ml_collective ml_collective_death ml_data_parallel ml_runtime_group
  ranks_core ranks_faults ranks_leak bootstrap_pmix_test)
asan_more=('sim_programs_[0-3]' 'ranks_core\.(r4\.ucx|r3\.local)' 'ranks_faults\.serving\.(shm|ucx)')
tsan_targets=(scheduler_deque scheduler_fiber scheduler_executor scheduler_progress transport_conformance_shm objstore_store
  core_tasks core_actors core_waiting core_async ranks_core ml_fold ml_collective_death)

# tests_of <target ...> [more ...]: a pattern for ctest.
tests_of() {
  local IFS='|'
  echo "^($*)([.]r2[.](shm|ucx))?$"
}

failed=()
for part in "${parts[@]}"; do
  echo "=== $part"
  case $part in
    dev) run_part dev dev all -LE slurm ;;
    asan) run_part asan asan "${asan_targets[*]}" -R "$(tests_of "${asan_targets[@]}" "${asan_more[@]}")" ;;
    tsan) run_part tsan tsan "${tsan_targets[*]}" -R "$(tests_of "${tsan_targets[@]}")" ;;
    slurm) run_part slurm dev tests_slurm -L slurm ;;
    *) echo "test.sh: no part named $part; there are: dev asan tsan slurm" >&2; exit 2 ;;
  esac || failed+=("$part")
done

echo
echo "=== summary"
python3 scripts/test_report.py "$out" || failed+=(skips)
for part in "${parts[@]}"; do
  closing=$(grep -h 'tests passed' "$out/$part.log" 2>/dev/null) || closing="did not get as far as running tests"
  echo "$part: $closing"
done
if ((${#failed[@]})); then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
