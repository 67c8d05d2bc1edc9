"""`trireme memory`: memory of ranks and workers."""

from __future__ import annotations

import argparse
import sys

from trireme._tools import options, render

HELP = "memory of ranks and workers"

add_arguments = options.add_session


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    rows = []
    for rank in options.ask(arguments, "memory"):
        print(f"rank {rank['rank']}: {render.size(rank['arena'])} of shared memory written to")
        for process in rank["processes"]:
            sizes = {key: render.size(process[key]) for key in ("private", "shared")}
            rows.append({"rank": rank["rank"], "pid": process["pid"], "what": process["what"], **sizes})
    sys.stdout.write(render.table(rows, ("rank", "pid", "what", "private", "shared")))
    return 0
