# Sourced by the commands of the Makefile: the top of the repository, and its Python before any other.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
if [[ -x .venv/bin/python3 ]]; then
  export VIRTUAL_ENV=$PWD/.venv  # where CMake looks first
  PATH=$VIRTUAL_ENV/bin:$PATH
fi

# configure <preset>: quiet when it works. A build folder that was configured by hand before .venv existed remembers
# another Python, without what the tests need: its settings are made anew.
configure() {
  local output cache=build/$1/CMakeCache.txt fresh=()
  if [[ -n ${VIRTUAL_ENV-} ]] && grep -q '^_Python3_EXECUTABLE' "$cache" 2>/dev/null &&
    ! grep -q "^_Python3_EXECUTABLE:INTERNAL=$VIRTUAL_ENV/" "$cache"; then
    fresh=(--fresh)
  fi
  output=$(cmake --preset "$1" ${fresh[@]+"${fresh[@]}"} 2>&1) || {
    printf '%s\n' "$output"
    return 1
  }
}
