"""The protocols on simulated ranks: runs trireme-sim, prints one of its figures as a sample.

usage: sim.py PATH_OF_TRIREME_SIM FIGURE UNIT [option=value ...]     (options of trireme-sim without the dashes)
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> int:
    if len(sys.argv) < 4:
        print(__doc__, file=sys.stderr)
        return 2
    program, figure, unit, *words = sys.argv[1:]
    options = [f"--{word}" for word in words]
    done = subprocess.run([program, *options, "--json", "-"], capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr.strip() or done.stdout.strip(), file=sys.stderr)
        return 1
    result = json.loads(done.stdout)
    if figure not in result:
        print(f"{figure}: expected one of {', '.join(sorted(result))}", file=sys.stderr)
        return 2
    print(json.dumps({"case": figure, "unit": unit, "value": result[figure]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
