#!/usr/bin/env bash
# Usage: scripts/check_wheel.sh [python]     an interpreter; the system's by default
# `pip install .` as a user does it, with pip fetching what the build needs, into an environment of its own; then programs from
# what was installed, alone and on two ranks, with no source tree in sight. Not part of make test: that needs no index
# (tests/python/test_packaging.py installs by the same rules).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

python=${1:-/usr/bin/python3}
[[ -x $python ]] || python=$(command -v python3)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
source=$PWD
unset PYTHONPATH TRIREME_BUILD_DIR VIRTUAL_ENV
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

"$python" -m venv "$folder/env"
"$folder/env/bin/pip" install --disable-pip-version-check "$source"
"$folder/env/bin/pip" show --disable-pip-version-check trireme
cp -r examples "$folder"
cd "$folder"

trireme=env/bin/trireme
ranks=(mpirun -n 2 --oversubscribe --bind-to none)
"$trireme" --version
"$trireme" --help
env/bin/python -c "import trireme; print(trireme.__file__); assert '/env/' in trireme.__file__"
env/bin/python examples/python/pi.py
"${ranks[@]}" "$trireme" run examples/python/pi.py
"$trireme" run --ray examples/python/ray_program.py
cat >members.py <<'PROGRAM'
import numpy as np

import trireme


@trireme.remote
class Member:
    def total(self, rank):
        from trireme.util import collective

        collective.init_collective_group(2, rank)
        array = np.full(4, rank + 1.0)
        collective.allreduce(array)
        return array.tolist()


members = [Member.remote() for _ in range(2)]
totals = trireme.get([member.total.remote(rank) for rank, member in enumerate(members)])
print("allreduce of two actors:", totals)
assert totals == [[3.0] * 4] * 2
PROGRAM
"$trireme" run members.py
"${ranks[@]}" "$trireme" run members.py

# A C++ library for Python is built with the headers of a C++ installation (CMake); it finds the wheel's libraries loaded.
for field in "$source"/build/*/examples/cross/libfield.so; do
  [[ -e $field ]] || continue
  "$trireme" run examples/cross/use_field.py "$field"
  "${ranks[@]}" "$trireme" run examples/cross/use_field.py "$field"
  break
done
echo "check_wheel: the wheel works"
