# Sourced by the commands of the Makefile: the top of the repository, and its Python before any other.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit
if [[ -x .venv/bin/python3 ]]; then
  export VIRTUAL_ENV=$PWD/.venv  # where CMake looks first
  PATH=$VIRTUAL_ENV/bin:$PATH
fi

# configure <preset>: quiet when it works.
configure() {
  local output
  output=$(cmake --preset "$1" 2>&1) || {
    printf '%s\n' "$output"
    return 1
  }
}
