#!/usr/bin/env bash
# Usage: scripts/check_format.sh [--fix]     checks, or with --fix rewrites, every C++ file with clang-format 14
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

wanted=14  # versions format differently; this is Debian 12's
tool=$(command -v "clang-format-$wanted" || command -v clang-format || true)
if [[ -z $tool ]] || ! "$tool" --version | grep -q "version $wanted\."; then
  echo "SKIPPED: missing clang-format $wanted (Debian: clang-format)"
  exit 77
fi
mode=(--dry-run -Werror)
[[ ${1:-} == --fix ]] && mode=(-i)
git ls-files -z --cached --others --exclude-standard -- '*.cpp' '*.hpp' '*.cu' |
  while IFS= read -r -d '' file; do [[ -e $file ]] && printf '%s\0' "$file"; done |
  xargs -0 -r -n 20 -P "$(nproc)" "$tool" --style=file "${mode[@]}"
