#!/usr/bin/env bash
# Usage: local_ranks.sh <n> <program> [argument ...]
# Runs n ranks of the program as a local cluster (no launcher). The exit status is the first that is not 0; then the
# other ranks are ended too.
set -uo pipefail
ranks=$1
shift
folder=$(mktemp -d)
export TRIREME_LOCAL_SIZE=$ranks TRIREME_LOCAL_SOCKET=$folder/socket
pids=()
for ((rank = 0; rank < ranks; ++rank)); do
  TRIREME_LOCAL_RANK=$rank "$@" &
  pids+=($!)
done
status=0
for ((rank = 0; rank < ranks; ++rank)); do
  wait -n
  ended=$?
  if ((ended != 0 && status == 0)); then
    status=$ended
    kill "${pids[@]}" 2>/dev/null
  fi
done
rm -rf "$folder"
exit "$status"
