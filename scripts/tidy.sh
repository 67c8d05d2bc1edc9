#!/usr/bin/env bash
# Usage: scripts/tidy.sh [file ...]     clang-tidy (.clang-tidy) over the files, or over all of the dev build
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

configure dev
if (($#)); then
  files=("$@")
else
  mapfile -t files < <(git ls-files -- '*.cpp' ':!tests/consumer' ':!tests/fuzz')
fi
printf '%s\0' "${files[@]}" | xargs -0 -n 1 -P "$(nproc)" clang-tidy --quiet -p build/dev
