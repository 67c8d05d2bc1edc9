#!/usr/bin/env bash
# Usage: scripts/setup.sh [bench]
# Brings a Debian 12 machine to where CMake finds everything, and makes .venv over the system's Python. Installs only
# packages that are missing; when none is, it needs no privileges. Where there is no apt, or no way to become root,
# it says what is needed and goes on: CMake has the last word.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

packages=(
  g++ cmake ninja-build ccache pkg-config git
  openmpi-bin libopenmpi-dev libpmix-dev libucx-dev ucx-utils libhwloc-dev
  libboost-serialization-dev libboost-context-dev libhdf5-dev libspdlog-dev libfmt-dev
  nlohmann-json3-dev libcli11-dev doctest-dev
  clang clang-format clang-tidy libclang-rt-14-dev gdb
  slurm-wlm slurmctld slurmd munge
  python3-dev python3-venv pybind11-dev python3-numpy python3-cloudpickle
  # What the Python tests use beyond what the package needs.
  python3-pytest python3-pytest-asyncio python3-torch python3-sklearn python3-joblib python3-tqdm python3-h5py
  python3-pandas python3-optuna python3-matplotlib python3-ipykernel
)
if [[ ${1:-} == bench ]]; then
  packages+=(libtbb-dev libcaf-dev libstarpu-dev valgrind strace)
fi

missing_packages() {
  local name
  for name in "${packages[@]}"; do
    [[ $(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null) == installed ]] || echo "$name"
  done
}

install_missing() {
  if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    cat <<'TEXT'
setup: no apt here. CMake (3.25 or newer) needs to find, on CMAKE_PREFIX_PATH: a C++20 compiler (GCC 12, Clang 14 or
setup: newer), Boost >= 1.74 (serialization, context), fmt, spdlog, CLI11, doctest, hwloc, PMIx, UCX; optionally MPI,
setup: HDF5, Python with pybind11, CUDA with NCCL, Slurm. It says which one is missing and which variable to set.
TEXT
    return
  fi
  local missing
  mapfile -t missing < <(missing_packages)
  ((${#missing[@]})) || return 0
  local as_root=()
  if ((EUID != 0)); then
    if ! command -v sudo >/dev/null; then
      echo "setup: not root and no sudo; these Debian packages are missing: ${missing[*]}" >&2
      echo "setup: going on, in case they are installed another way (modules, Spack)" >&2
      return
    fi
    as_root=(sudo)
  fi
  echo "setup: installing ${missing[*]}"
  local apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -q)
  "${apt[@]}" update
  "${apt[@]}" install -y --no-install-recommends "${missing[@]}"
}

make_venv() {
  [[ -x .venv/bin/python3 ]] && .venv/bin/python3 -c '' 2>/dev/null && return
  local python=/usr/bin/python3
  [[ -x $python ]] || python=$(command -v python3 || true)
  if [[ -z $python ]]; then
    echo "setup: no python3, so no .venv; the check scripts among the tests will be missing" >&2
    return
  fi
  rm -rf .venv
  "$python" -m venv --system-site-packages .venv
}

# The package from the source tree: CMake puts the extension beside the sources (python/trireme/_native*.so).
link_package() {
  [[ -x .venv/bin/python3 ]] || return 0
  local site
  site=$(.venv/bin/python3 -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  printf '%s\n' "$PWD/python" >"$site/trireme.pth"
  cat >.venv/bin/trireme <<TEXT
#!$PWD/.venv/bin/python3
import sys

from trireme._cli import main

sys.exit(main())
TEXT
  chmod +x .venv/bin/trireme
  # As an installed package is; else every process that starts compiles it again where writing it down is switched off.
  .venv/bin/python3 -m compileall -q python/trireme
}

install_missing
make_venv
link_package
