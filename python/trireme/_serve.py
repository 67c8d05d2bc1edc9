"""A rank of a `cluster_utils.Cluster`: `python -m trireme._serve JSON` serves until rank 0 ends, or its parent does."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Join and serve; the argument is JSON: `parent` (pid), and what `trireme.init` takes of a rank."""
    options = json.loads(sys.argv[1])
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != options.pop("parent"):
        sys.exit(1)  # it ended before it could tell
    # Ctrl-C at the terminal is for rank 0, which ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from trireme import _init

    _init._serve(_init._join(**options))


if __name__ == "__main__":
    main()
