"""`trireme summary`: how many tasks, actors or objects are in which state."""

from __future__ import annotations

import argparse
import sys

from trireme._tools import options, render

HELP = "how many tasks, actors or objects are in which state"

#: How they are counted, by what, and where the counts are.
COUNTS = {
    "tasks": ("count_tasks", "name", "state_counts"),
    "actors": ("count_actors", "class", "state_counts"),
    "objects": ("count_objects", "made by", "ref_type_counts"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    options.add_session(parser)
    parser.add_argument("kind", choices=("tasks", "actors", "objects"))


@options.reports_errors
def run(arguments: argparse.Namespace) -> int:
    from trireme.util.state import api

    count, label, counts = COUNTS[arguments.kind]
    summary = getattr(api, count)(options.rows(arguments, arguments.kind))["summary"]
    rows = [
        {label: name, **{state.lower(): number for state, number in entry[counts].items()}}
        for name, entry in summary.items()
    ]
    states = sorted({key for row in rows for key in row} - {label})
    sys.stdout.write(render.table([{**dict.fromkeys(states, 0), **row} for row in rows], (label, *states)))
    return 0
